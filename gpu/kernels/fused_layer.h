// The fused layer: what becomes of a token's rows. The reference consumer of rows, forward, over
// ragged batches of prefill chunks and decode steps.
//
//   e = the token's rows, one after the other; for each branch m: key_m = W_K,m e; value = W_V e,
//   shared dot_m = <RMSNorm(h_m), RMSNorm(key_m)> / sqrt(hidden); gate_m = sigmoid(sign(dot)
//   sqrt(max(|dot|, 1e-6))) V4.1:  h_m += gate_m value                                         dead
//   positions have gate 0 paper: u = gate_m value; h_m += u + SiLU(conv(RMSNorm(u))) causal,
//   depthwise, dilated
//
// proto/FORMATS.md has the formulas with their sources. Sums are fp32 and h is rounded once, to
// bf16. An engine has faster matrix products than these kernels; what counts here is that they are
// right. A FusedLayer is immutable but for its scratch memory: one step at a time, on one stream.
// Nothing allocates after Create.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gpu/device/device.h"
#include "gpu/kernels/fused_layer_loop.h"

namespace engram {

class FusedLayer {
 public:
  // `weights` is device memory and outlives it. INVALID_ARGUMENT: a shape or a weight that is
  // missing; RESOURCE_EXHAUSTED: no memory for max_tokens' scratch.
  static absl::StatusOr<std::unique_ptr<FusedLayer>> Create(const FusedLayerShape& shape,
                                                            const FusedLayerWeights& weights,
                                                            Device& device, uint32_t max_tokens);

  const FusedLayerShape& shape() const { return shape_; }
  // Floats of FusedLayerBatch::past a sequence.
  uint64_t PastFloats() const;

  // INVALID_ARGUMENT: more tokens than max_tokens, or memory that is missing. Starts are trusted.
  absl::Status Enqueue(const FusedLayerBatch& batch, Stream& stream) const;

 private:
  FusedLayer() = default;

  FusedLayerShape shape_;
  FusedLayerWeights weights_;
  uint32_t max_tokens_ = 0;
  DeviceBuffer memory_;
  FusedLayerScratch scratch_;
};

}  // namespace engram
