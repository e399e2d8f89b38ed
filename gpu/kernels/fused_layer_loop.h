// The fused layer's arithmetic in fp32, for host and device alike: what becomes of a dot product,
// of a gate, of the convolution's past. The formulas are proto/FORMATS.md's, "The fused layer".
#pragma once

#include <cstdint>

#include "gpu/kernels/bf16_values.h"

#ifdef __CUDACC__
#define ENGRAM_FUSED_FUNCTION __host__ __device__ __forceinline__
#else
#include <cmath>
#define ENGRAM_FUSED_FUNCTION inline
#endif

namespace engram {

enum class FusedLayerKind : uint32_t {
  kPaper,        // gate and value, then a dilated causal convolution over each branch
  kDeepSeekV41,  // gate and value; no convolution
};

struct FusedLayerShape {
  FusedLayerKind kind = FusedLayerKind::kDeepSeekV41;
  uint32_t inputs = 0;    // values of a token's rows: columns * dim
  uint32_t hidden = 0;    // of a branch
  uint32_t branches = 1;  // hidden states of a token (hyper-connections)
  float eps = 0;          // of the norms
  uint32_t dilation = 0;  // kPaper: the largest n-gram's order
};

inline constexpr uint32_t kConvKernel = 4;

// Weights as bf16, rows after one another.
struct FusedLayerWeights {
  const uint16_t* key = nullptr;         // [branches][hidden][inputs]
  const uint16_t* value = nullptr;       // [hidden][inputs]
  const uint16_t* key_norm = nullptr;    // [branches][hidden]
  const uint16_t* query_norm = nullptr;  // [branches][hidden]
  const uint16_t* conv_norm = nullptr;   // [branches][hidden], kPaper
  const uint16_t* conv =
      nullptr;  // [branches][hidden][kConvKernel], kPaper; the newest token's last
};

// A ragged batch: sequence s has the tokens starts[s] to starts[s + 1].
struct FusedLayerBatch {
  const uint16_t* rows = nullptr;    // bf16 [tokens][inputs]
  uint16_t* hidden = nullptr;        // bf16 [tokens][branches][hidden]; added to in place
  const uint8_t* dead = nullptr;     // [tokens] or null: whose gates are 0
  const uint32_t* starts = nullptr;  // [sequences + 1], ascending from 0 to `tokens`
  // kPaper: [sequences][(kConvKernel - 1) * dilation][branches][hidden], what the convolution saw
  // before, newest first; zeros at a sequence's start. Moves on by the batch's tokens.
  float* past = nullptr;
  const uint32_t* open =
      nullptr;  // a word: 0 shuts every gate (rows that did not come); null: open
  uint32_t sequences = 0;
  uint32_t tokens = 0;
};

// What stands between the steps.
struct FusedLayerScratch {
  float* keys = nullptr;            // [tokens][branches][hidden]
  float* values = nullptr;          // [tokens][hidden]
  float* gates = nullptr;           // [tokens][branches]
  float* scales = nullptr;          // [tokens][branches]: 1 / RMS of gate * value
  uint32_t* sequence_of = nullptr;  // [tokens]
  float* rows = nullptr;            // host alone: the batch's, as fp32
  float* weight_row = nullptr;      // host alone: [inputs]
};

ENGRAM_FUSED_FUNCTION float FloatOfBf16(uint16_t bits) {
  return FloatOfBits(static_cast<uint32_t>(bits) << 16);
}
ENGRAM_FUSED_FUNCTION uint16_t Bf16OfFloat(float value) {
  return Bf16OfFloatBits(BitsOfFloat(value));
}

ENGRAM_FUSED_FUNCTION float Sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// The sums over a branch that its gate is made of.
struct GateSums {
  float dot = 0;    // hidden * query_norm * key_norm * key
  float query = 0;  // hidden^2
  float key = 0;    // key^2
  float value = 0;  // value^2
};

ENGRAM_FUSED_FUNCTION void AddChannel(const FusedLayerShape& shape,
                                      const FusedLayerWeights& weights,
                                      const FusedLayerBatch& batch,
                                      const FusedLayerScratch& scratch, uint64_t token,
                                      uint64_t branch, uint64_t channel, GateSums* sums) {
  const uint64_t at = (token * shape.branches + branch) * shape.hidden + channel;
  const float hidden = FloatOfBf16(batch.hidden[at]), key = scratch.keys[at];
  const float value = scratch.values[token * shape.hidden + channel];
  const uint64_t weight = branch * shape.hidden + channel;
  sums->dot += hidden * FloatOfBf16(weights.query_norm[weight]) *
               FloatOfBf16(weights.key_norm[weight]) * key;
  sums->query += hidden * hidden;
  sums->key += key * key;
  sums->value += value * value;
}

// Whether nothing of the token's rows may be used.
ENGRAM_FUSED_FUNCTION bool IsShut(const FusedLayerBatch& batch, uint32_t token) {
  return (batch.open != nullptr && *batch.open == 0) ||
         (batch.dead != nullptr && batch.dead[token] != 0);
}

ENGRAM_FUSED_FUNCTION float GateOf(const FusedLayerShape& shape, const GateSums& sums) {
  const float count = static_cast<float>(shape.hidden);
  const float dot = sums.dot * (1.0f / sqrtf(sums.query / count + shape.eps)) *
                    (1.0f / sqrtf(sums.key / count + shape.eps)) / sqrtf(count);
  const float root = sqrtf(fmaxf(fabsf(dot), 1e-6f));
  // sign(0) is 0 in the paper's, and copysign's in V4.1's.
  if (shape.kind == FusedLayerKind::kPaper && dot == 0.0f) return 0.5f;
  return Sigmoid(copysignf(root, dot));
}

ENGRAM_FUSED_FUNCTION float ScaleOf(const FusedLayerShape& shape, float gate,
                                    const GateSums& sums) {
  return 1.0f / sqrtf(gate * gate * sums.value / static_cast<float>(shape.hidden) + shape.eps);
}

ENGRAM_FUSED_FUNCTION uint32_t PastTokens(const FusedLayerShape& shape) {
  return shape.kind == FusedLayerKind::kPaper ? (kConvKernel - 1) * shape.dilation : 0;
}

// What the convolution sees of a token of the batch: RMSNorm(gate * value).
ENGRAM_FUSED_FUNCTION float ConvInput(const FusedLayerShape& shape,
                                      const FusedLayerWeights& weights,
                                      const FusedLayerScratch& scratch, uint32_t token,
                                      uint32_t branch, uint32_t channel) {
  const uint64_t at = static_cast<uint64_t>(token) * shape.branches + branch;
  return scratch.gates[at] * scratch.values[static_cast<uint64_t>(token) * shape.hidden + channel] *
         scratch.scales[at] *
         FloatOfBf16(weights.conv_norm[static_cast<uint64_t>(branch) * shape.hidden + channel]);
}

ENGRAM_FUSED_FUNCTION uint64_t PastAt(const FusedLayerShape& shape, uint32_t sequence, uint32_t age,
                                      uint32_t branch, uint32_t channel) {
  return ((static_cast<uint64_t>(sequence) * PastTokens(shape) + age) * shape.branches + branch) *
             shape.hidden +
         channel;
}

// What a token's hidden state becomes, one channel of one branch.
ENGRAM_FUSED_FUNCTION void AddToHidden(const FusedLayerShape& shape,
                                       const FusedLayerWeights& weights,
                                       const FusedLayerBatch& batch,
                                       const FusedLayerScratch& scratch, uint32_t token,
                                       uint32_t branch, uint32_t channel) {
  const uint64_t at = static_cast<uint64_t>(token) * shape.branches + branch;
  const float u =
      scratch.gates[at] * scratch.values[static_cast<uint64_t>(token) * shape.hidden + channel];
  float y = u;
  if (shape.kind == FusedLayerKind::kPaper) {
    const uint32_t sequence = scratch.sequence_of[token];
    const uint32_t older = token - batch.starts[sequence];
    const uint16_t* const taps =
        weights.conv + (static_cast<uint64_t>(branch) * shape.hidden + channel) * kConvKernel;
    float sum = 0;
    for (uint32_t tap = 0; tap < kConvKernel; ++tap) {
      const uint32_t back = (kConvKernel - 1 - tap) * shape.dilation;
      const float x = back <= older
                          ? ConvInput(shape, weights, scratch, token - back, branch, channel)
                          : batch.past[PastAt(shape, sequence, back - older - 1, branch, channel)];
      sum += FloatOfBf16(taps[tap]) * x;
    }
    y = u + sum * Sigmoid(sum);
  }
  uint16_t* const hidden = batch.hidden + at * shape.hidden + channel;
  *hidden = Bf16OfFloat(FloatOfBf16(*hidden) + y);
}

// A sequence's past, moved on by its tokens of the batch, one channel of one branch; in place, from
// the oldest on.
ENGRAM_FUSED_FUNCTION void AdvancePast(const FusedLayerShape& shape,
                                       const FusedLayerWeights& weights,
                                       const FusedLayerBatch& batch,
                                       const FusedLayerScratch& scratch, uint32_t sequence,
                                       uint32_t branch, uint32_t channel) {
  const uint32_t end = batch.starts[sequence + 1];
  const uint32_t tokens = end - batch.starts[sequence];
  for (uint32_t age = PastTokens(shape); age-- > 0;) {
    batch.past[PastAt(shape, sequence, age, branch, channel)] =
        age < tokens ? ConvInput(shape, weights, scratch, end - 1 - age, branch, channel)
                     : batch.past[PastAt(shape, sequence, age - tokens, branch, channel)];
  }
}

}  // namespace engram

#undef ENGRAM_FUSED_FUNCTION
