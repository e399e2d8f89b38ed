#include "gpu/simulator/engine.h"

#include <xmmintrin.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "gpu/simulator/cuda_backbone.h"
#include "memstore/base/clock.h"

namespace engram::simulator {
namespace {

constexpr unsigned kFlushSubnormals = 0x8040;  // MXCSR: results to zero, and arguments

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const Manifest& manifest,
                                                       const BackboneShape& shape,
                                                       uint32_t branches, Device& device,
                                                       uint32_t max_tokens) {
  std::unique_ptr<Engine> engine(new Engine);
  absl::StatusOr<std::unique_ptr<Backbone>> backbone = Backbone::Create(shape, max_tokens, device);
  if (!backbone.ok()) return backbone.status();
  engine->backbone_ = *std::move(backbone);
  absl::StatusOr<std::unique_ptr<Stream>> stream = device.MakeStream("compute");
  if (!stream.ok()) return stream.status();
  engine->stream_ = *std::move(stream);
  absl::Status status;
  if (engine->stream_->native() == nullptr) {
    // Synthetic rows are any bits: a processor is a hundred times slower over subnormal numbers.
    status = engine->stream_->LaunchOnHost([] { _mm_setcsr(_mm_getcsr() | kFlushSubnormals); });
  }
  for (const LayerTableSpec& spec : manifest.layers) {
    if (status.ok()) {
      status = engine->AddLayer(spec, manifest.scheme.Columns(), branches, device, max_tokens);
    }
  }
  if (status.ok()) {
    status =
        engine->Allocate(uint64_t{max_tokens} * branches * shape.hidden * sizeof(uint16_t), device);
  }
  if (!status.ok()) return status;
  return engine;
}

absl::Status Engine::AddLayer(const LayerTableSpec& spec, uint32_t columns, uint32_t branches,
                              Device& device, uint32_t max_tokens) {
  const BackboneShape& shape = backbone_->shape();
  if (spec.layer >= shape.blocks || spec.encoding.dim == 0) {
    return absl::InvalidArgumentError(absl::StrCat("layer ", spec.layer,
                                                   ": the simulated model has ", shape.blocks,
                                                   " blocks and reads rows that have values"));
  }
  Layer layer;
  layer.number = spec.layer;
  layer.inputs = columns * spec.encoding.dim;
  const uint64_t matrix = uint64_t{shape.hidden} * layer.inputs;
  const uint64_t norms = uint64_t{branches} * shape.hidden;
  std::minstd_rand random(spec.layer + 1);
  std::vector<uint16_t> made((branches + 1) * matrix + 2 * norms);
  // Small numbers of either sign.
  for (uint16_t& weight : made) weight = static_cast<uint16_t>(0x3c00 | (random() & 0x80ff));
  absl::StatusOr<DeviceBuffer> memory =
      device.Allocate(MemoryKind::kDevice, made.size() * sizeof(uint16_t));
  if (!memory.ok()) return memory.status();
  layer.weights = *std::move(memory);
  absl::Status status =
      stream_->Copy(layer.weights.data(), made.data(), made.size() * sizeof(uint16_t));
  absl::Status copied = stream_->Synchronize();
  if (status.ok()) status = copied;
  if (!status.ok()) return status;
  const uint16_t* const weights = layer.weights.as<uint16_t>();
  const uint16_t* const value = weights + branches * matrix;
  auto fused = FusedLayer::Create({.kind = FusedLayerKind::kDeepSeekV41,
                                   .inputs = layer.inputs,
                                   .hidden = shape.hidden,
                                   .branches = branches,
                                   .eps = 1e-6f},
                                  {.key = weights,
                                   .value = value,
                                   .key_norm = value + matrix,
                                   .query_norm = value + matrix + norms},
                                  device, max_tokens);
  if (!fused.ok()) return fused.status();
  layer.fused = *std::move(fused);
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

absl::Status Engine::Allocate(uint64_t hidden_bytes, Device& device) {
  const struct {
    DeviceBuffer* buffer;
    MemoryKind kind;
    uint64_t bytes;
  } wanted[] = {{&hidden_, MemoryKind::kDevice, hidden_bytes},
                {&starts_, MemoryKind::kPinnedHost, 2 * sizeof(uint32_t)},
                {&stamps_, MemoryKind::kPinnedHost, 2 * layers_.size() * sizeof(int64_t)}};
  for (const auto& one : wanted) {
    absl::StatusOr<DeviceBuffer> memory = device.Allocate(one.kind, one.bytes);
    if (!memory.ok()) return memory.status();
    *one.buffer = *std::move(memory);
  }
  return absl::OkStatus();
}

absl::Status Engine::Stamp(int64_t* at) {
  if (stream_->native() != nullptr) return EnqueueCudaStamp(at, *stream_);
  return stream_->LaunchOnHost([at] { *at = RealClock().Now().nanoseconds(); });
}

absl::Status Engine::EnqueueLayer(const Layer& layer, const TrafficStep& step, Way& way,
                                  size_t place) {
  int64_t* const stamps = stamps_.as<int64_t>() + 2 * place;
  absl::Status status = Stamp(&stamps[0]);
  if (!status.ok()) return status;
  const absl::StatusOr<const std::byte*> rows = way.Enter(step, layer.number, *stream_);
  if (!rows.ok()) return rows.status();
  if (status = Stamp(&stamps[1]); !status.ok()) return status;
  // V4.1's layer knows nothing of sequences: all tokens are as one.
  starts_.as<uint32_t>()[1] = static_cast<uint32_t>(step.token_ids.size());
  return layer.fused->Enqueue({.rows = reinterpret_cast<const uint16_t*>(*rows),
                               .hidden = hidden_.as<uint16_t>(),
                               .starts = starts_.as<uint32_t>(),
                               .sequences = 1,
                               .tokens = static_cast<uint32_t>(step.token_ids.size())},
                              *stream_);
}

absl::Status Engine::Enqueue(const TrafficStep& step, Way* way) {
  absl::Status status;
  const auto tokens = static_cast<uint32_t>(step.token_ids.size());
  for (uint32_t block = 0; status.ok() && block < backbone_->shape().blocks; ++block) {
    for (size_t i = 0; status.ok() && way != nullptr && i < layers_.size(); ++i) {
      if (layers_[i].number == block) status = EnqueueLayer(layers_[i], step, *way, i);
    }
    if (status.ok()) status = backbone_->EnqueueBlock(tokens, *stream_);
  }
  return status;
}

absl::Status Engine::Run(absl::Span<const TrafficStep> steps, Way* way, Taken* taken) {
  const auto begin = [way](const TrafficStep& step) {
    return way == nullptr ? absl::OkStatus() : way->Begin(step);
  };
  bool begun = false;  // the step at hand
  for (size_t i = 0; i < steps.size(); ++i) {
    const int64_t start = RealClock().Now().nanoseconds();
    absl::Status status = begun ? absl::OkStatus() : begin(steps[i]);
    begun = status.ok() && i + 1 < steps.size() && steps[i + 1].is_prefill;
    if (begun) status = begin(steps[i + 1]);
    if (status.ok()) status = Enqueue(steps[i], way);
    if (status.ok()) status = stream_->Synchronize();
    if (status.ok() && way != nullptr) status = way->End();
    if (!status.ok()) return status;
    taken->ns += RealClock().Now().nanoseconds() - start;
    ++taken->steps;
    taken->tokens += steps[i].token_ids.size();
    for (size_t l = 0; way != nullptr && l < layers_.size(); ++l)
      taken->exposed_ns += stamps_.as<int64_t>()[2 * l + 1] - stamps_.as<int64_t>()[2 * l];
  }
  return absl::OkStatus();
}

}  // namespace engram::simulator
