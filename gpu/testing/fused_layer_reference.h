// The fused layer in double precision, written from the formulas and from nothing of the layer's
// own: a whole sequence at once, so that its convolution sees all tokens and needs no state.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "gpu/kernels/fused_layer_loop.h"

namespace engram::testing {

// What the hidden states [tokens][branches][hidden] become, not rounded. `rows` is
// [tokens][inputs], `dead` empty or a byte a token.
std::vector<double> FusedLayerReference(const FusedLayerShape& shape,
                                        const FusedLayerWeights& weights,
                                        absl::Span<const uint16_t> rows,
                                        absl::Span<const uint16_t> hidden,
                                        absl::Span<const uint8_t> dead);

}  // namespace engram::testing
