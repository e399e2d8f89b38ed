#include "gpu/simulator/engine.h"

#include <xmmintrin.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace engram::simulator {
namespace {

constexpr unsigned kFlushSubnormals = 0x8040;  // MXCSR: results to zero, and arguments

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const Manifest& manifest,
                                                       const BackboneShape& shape, Device& device,
                                                       uint32_t max_tokens) {
  std::unique_ptr<Engine> engine(new Engine(shape, max_tokens));
  absl::StatusOr<std::unique_ptr<Stream>> stream = device.MakeStream("compute");
  if (!stream.ok()) return stream.status();
  engine->stream_ = *std::move(stream);
  if (engine->stream_->native() == nullptr) {
    // Synthetic rows are any bits: a processor is a hundred times slower over subnormal numbers.
    absl::Status status =
        engine->stream_->LaunchOnHost([] { _mm_setcsr(_mm_getcsr() | kFlushSubnormals); });
    if (!status.ok()) return status;
  }
  for (const LayerTableSpec& spec : manifest.layers) {
    if (spec.layer >= shape.blocks || spec.encoding.kind != RowEncodingKind::kBf16) {
      return absl::InvalidArgumentError(absl::StrCat("layer ", spec.layer,
                                                     ": the simulated model has ", shape.blocks,
                                                     " blocks and reads bf16 rows"));
    }
    Layer layer;
    layer.number = spec.layer;
    layer.inputs = manifest.scheme.Columns() * spec.encoding.dim;
    const uint64_t matrix = uint64_t{shape.hidden} * layer.inputs;
    std::mt19937 random(spec.layer);
    layer.weights.resize(2 * matrix + 2 * shape.hidden);
    // Small numbers of either sign.
    for (uint16_t& weight : layer.weights)
      weight = static_cast<uint16_t>(0x3c00 | (random() & 0x80ff));
    const uint16_t* const weights = layer.weights.data();
    auto fused = FusedLayer::Create({.kind = FusedLayerKind::kDeepSeekV41,
                                     .inputs = layer.inputs,
                                     .hidden = shape.hidden,
                                     .branches = 1,
                                     .eps = 1e-6f},
                                    {.key = weights,
                                     .value = weights + matrix,
                                     .key_norm = weights + 2 * matrix,
                                     .query_norm = weights + 2 * matrix + shape.hidden},
                                    device, max_tokens);
    if (!fused.ok()) return fused.status();
    layer.fused = *std::move(fused);
    engine->layers_.push_back(std::move(layer));
  }
  engine->before_.resize(engine->layers_.size());
  engine->after_.resize(engine->layers_.size());
  absl::StatusOr<DeviceBuffer> hidden =
      device.Allocate(MemoryKind::kDevice, uint64_t{max_tokens} * shape.hidden * sizeof(uint16_t));
  if (!hidden.ok()) return hidden.status();
  engine->hidden_ = *std::move(hidden);
  absl::StatusOr<DeviceBuffer> starts =
      device.Allocate(MemoryKind::kPinnedHost, 2 * sizeof(uint32_t));
  if (!starts.ok()) return starts.status();
  engine->starts_ = *std::move(starts);
  return engine;
}

absl::Status Engine::Stamp(int64_t* at) {
  return stream_->LaunchOnHost([at] { *at = absl::GetCurrentTimeNanos(); });
}

absl::Status Engine::EnqueueLayer(const Layer& layer, const TrafficStep& step, Way& way,
                                  size_t place) {
  absl::Status status = Stamp(&before_[place]);
  if (!status.ok()) return status;
  const absl::StatusOr<const std::byte*> rows = way.Enter(step, layer.number, *stream_);
  if (!rows.ok()) return rows.status();
  if (status = Stamp(&after_[place]); !status.ok()) return status;
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
  absl::Status status = Stamp(&begin_);
  const auto tokens = static_cast<uint32_t>(step.token_ids.size());
  for (uint32_t block = 0; status.ok() && block < backbone_.shape().blocks; ++block) {
    for (size_t i = 0; status.ok() && way != nullptr && i < layers_.size(); ++i) {
      if (layers_[i].number == block) status = EnqueueLayer(layers_[i], step, *way, i);
    }
    if (status.ok()) status = backbone_.EnqueueBlock(tokens, *stream_);
  }
  return status.ok() ? Stamp(&end_) : status;
}

absl::Status Engine::Run(absl::Span<const TrafficStep> steps, Way* way, Taken* taken) {
  const auto begin = [way](const TrafficStep& step) {
    return way == nullptr ? absl::OkStatus() : way->Begin(step);
  };
  bool begun = false;  // the step at hand
  for (size_t i = 0; i < steps.size(); ++i) {
    const int64_t start = absl::GetCurrentTimeNanos();
    absl::Status status = begun ? absl::OkStatus() : begin(steps[i]);
    begun = status.ok() && i + 1 < steps.size() && steps[i + 1].is_prefill;
    if (begun) status = begin(steps[i + 1]);
    if (status.ok()) status = Enqueue(steps[i], way);
    if (status.ok()) status = stream_->Synchronize();
    if (status.ok() && way != nullptr) status = way->End();
    if (!status.ok()) return status;
    taken->ns += absl::GetCurrentTimeNanos() - start;
    ++taken->steps;
    taken->tokens += steps[i].token_ids.size();
    for (size_t l = 0; way != nullptr && l < layers_.size(); ++l)
      taken->exposed_ns += after_[l] - before_[l];
  }
  return absl::OkStatus();
}

}  // namespace engram::simulator
