#include "gpu/kernels/fused_layer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "gpu/kernels/fused_layer_cuda.h"

namespace engram {
namespace {

// Partial sums of a dot product: so many that they become vectors, in an order that is always the
// same.
constexpr uint32_t kLanes = 16;

float Dot(const float* a, const float* b, uint32_t count) {
  float sums[kLanes] = {};
  uint32_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (uint32_t l = 0; l < kLanes; ++l) sums[l] += a[i + l] * b[i + l];
  }
  for (; i < count; ++i) sums[0] += a[i] * b[i];
  float sum = 0;
  for (const float lane : sums) sum += lane;
  return sum;
}

void Widen(const uint16_t* from, uint64_t count, float* to) {
  for (uint64_t i = 0; i < count; ++i) to[i] = FloatOfBf16(from[i]);
}

// `rows` are the batch's; a row of weights is widened to `weight_row` once for all tokens.
void Project(const uint16_t* weights, const float* rows, uint32_t tokens, uint32_t inputs,
             uint64_t outputs, float* weight_row, float* out) {
  for (uint64_t o = 0; o < outputs; ++o) {
    Widen(weights + o * inputs, inputs, weight_row);
    for (uint64_t t = 0; t < tokens; ++t) {
      out[t * outputs + o] = Dot(weight_row, rows + t * inputs, inputs);
    }
  }
}

GateSums SumsOf(const FusedLayerShape& shape, const FusedLayerWeights& weights,
                const FusedLayerBatch& batch, const FusedLayerScratch& scratch, uint64_t token,
                uint64_t branch) {
  GateSums sums;
  for (uint64_t c = 0; c < shape.hidden; ++c) {
    AddChannel(shape, weights, batch, scratch, token, branch, c, &sums);
  }
  return sums;
}

void RunOnHost(const FusedLayerShape& shape, const FusedLayerWeights& weights,
               const FusedLayerBatch& batch, const FusedLayerScratch& scratch) {
  Widen(batch.rows, uint64_t{batch.tokens} * shape.inputs, scratch.rows);
  Project(weights.key, scratch.rows, batch.tokens, shape.inputs,
          uint64_t{shape.branches} * shape.hidden, scratch.weight_row, scratch.keys);
  Project(weights.value, scratch.rows, batch.tokens, shape.inputs, shape.hidden, scratch.weight_row,
          scratch.values);
  for (uint32_t s = 0; s < batch.sequences; ++s) {
    std::fill(scratch.sequence_of + batch.starts[s], scratch.sequence_of + batch.starts[s + 1], s);
  }
  for (uint32_t t = 0; t < batch.tokens; ++t) {
    const bool shut = IsShut(batch, t);
    for (uint32_t m = 0; m < shape.branches; ++m) {
      const GateSums sums = SumsOf(shape, weights, batch, scratch, t, m);
      const float gate = shut ? 0.0f : GateOf(shape, sums);
      scratch.gates[uint64_t{t} * shape.branches + m] = gate;
      scratch.scales[uint64_t{t} * shape.branches + m] = ScaleOf(shape, gate, sums);
    }
  }
  for (uint32_t t = 0; t < batch.tokens; ++t) {
    for (uint32_t m = 0; m < shape.branches; ++m) {
      for (uint32_t c = 0; c < shape.hidden; ++c)
        AddToHidden(shape, weights, batch, scratch, t, m, c);
    }
  }
  for (uint32_t s = 0; PastTokens(shape) > 0 && s < batch.sequences; ++s) {
    for (uint32_t m = 0; m < shape.branches; ++m) {
      for (uint32_t c = 0; c < shape.hidden; ++c)
        AdvancePast(shape, weights, batch, scratch, s, m, c);
    }
  }
}

absl::Status CheckShape(const FusedLayerShape& shape, const FusedLayerWeights& weights,
                        uint32_t max_tokens) {
  if (shape.inputs == 0 || shape.hidden == 0 || shape.branches == 0 || max_tokens == 0) {
    return absl::InvalidArgumentError(
        "a fused layer needs inputs, hidden, branches and max_tokens");
  }
  const bool is_paper = shape.kind == FusedLayerKind::kPaper;
  if (is_paper != (shape.dilation > 0)) {
    return absl::InvalidArgumentError(
        "the paper's layer has a dilation (the largest n-gram's order), V4.1's has none");
  }
  const bool complete = weights.key != nullptr && weights.value != nullptr &&
                        weights.key_norm != nullptr && weights.query_norm != nullptr &&
                        (!is_paper || (weights.conv_norm != nullptr && weights.conv != nullptr));
  if (!complete) {
    return absl::InvalidArgumentError(
        absl::StrCat("a weight is missing: key, value, key_norm and query_norm are needed",
                     is_paper ? ", and conv_norm and conv for the paper's layer" : ""));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<FusedLayer>> FusedLayer::Create(const FusedLayerShape& shape,
                                                               const FusedLayerWeights& weights,
                                                               Device& device,
                                                               uint32_t max_tokens) {
  if (absl::Status status = CheckShape(shape, weights, max_tokens); !status.ok()) return status;
  std::unique_ptr<FusedLayer> layer(new FusedLayer);
  layer->shape_ = shape;
  layer->weights_ = weights;
  layer->max_tokens_ = max_tokens;
  const uint64_t tokens = max_tokens, branches = tokens * shape.branches;
  // The host's products read rows and weights as fp32.
  const uint64_t host_words = device.kind() == DeviceKind::kHost ? (tokens + 1) * shape.inputs : 0;
  const uint64_t words =
      branches * shape.hidden + tokens * shape.hidden + 2 * branches + tokens + host_words;
  absl::StatusOr<DeviceBuffer> memory = device.Allocate(MemoryKind::kDevice, words * sizeof(float));
  if (!memory.ok()) return memory.status();
  layer->memory_ = *std::move(memory);
  FusedLayerScratch& scratch = layer->scratch_;
  scratch.keys = layer->memory_.as<float>();
  scratch.values = scratch.keys + branches * shape.hidden;
  scratch.gates = scratch.values + tokens * shape.hidden;
  scratch.scales = scratch.gates + branches;
  scratch.sequence_of = reinterpret_cast<uint32_t*>(scratch.scales + branches);
  if (host_words > 0) {
    scratch.rows = scratch.scales + branches + tokens;
    scratch.weight_row = scratch.rows + tokens * shape.inputs;
  }
  return layer;
}

uint64_t FusedLayer::PastFloats() const {
  return uint64_t{PastTokens(shape_)} * shape_.branches * shape_.hidden;
}

absl::Status FusedLayer::Enqueue(const FusedLayerBatch& batch, Stream& stream) const {
  if (batch.tokens == 0) return absl::OkStatus();
  if (batch.tokens > max_tokens_) {
    return absl::InvalidArgumentError(
        absl::StrCat("a batch of ", batch.tokens, " tokens; the layer was made for ", max_tokens_));
  }
  const bool has_memory = batch.rows != nullptr && batch.hidden != nullptr &&
                          batch.starts != nullptr && batch.sequences > 0 &&
                          (PastTokens(shape_) == 0 || batch.past != nullptr);
  if (!has_memory) {
    return absl::InvalidArgumentError(
        "a batch needs rows, hidden, its sequences' starts, and the paper's layer their past");
  }
  if (stream.native() != nullptr) {
    const absl::string_view error =
        LaunchFusedLayer(shape_, weights_, batch, scratch_, stream.native());
    return error.empty() ? absl::OkStatus()
                         : absl::InternalError(absl::StrCat("the fused layer: ", error));
  }
  return stream.LaunchOnHost([this, batch] { RunOnHost(shape_, weights_, batch, scratch_); });
}

}  // namespace engram
