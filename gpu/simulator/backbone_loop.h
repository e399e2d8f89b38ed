// What stands between a block's products, for host and device alike.
#pragma once

#include "gpu/kernels/fused_layer_loop.h"

#ifdef __CUDACC__
#define ENGRAM_BACKBONE_FUNCTION __host__ __device__ __forceinline__
#else
#define ENGRAM_BACKBONE_FUNCTION inline
#endif

namespace engram::simulator {

// What a hidden state begins with.
ENGRAM_BACKBONE_FUNCTION float FirstHidden(uint32_t channel) {
  return static_cast<float>(channel % 7) / 8.0f - 0.375f;
}
// The residual sum, kept from growing or vanishing over the blocks, as norms do.
ENGRAM_BACKBONE_FUNCTION float AddedTo(float hidden, float change) {
  const float sum = hidden + change;
  return sum / (1.0f + (sum < 0 ? -sum : sum));
}
// The gated feed-forward's middle: SiLU(gate) * up.
ENGRAM_BACKBONE_FUNCTION float Gated(float gate, float up) { return gate * Sigmoid(gate) * up; }

}  // namespace engram::simulator

#undef ENGRAM_BACKBONE_FUNCTION
