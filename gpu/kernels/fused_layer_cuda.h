// The fused layer's kernels, behind a function that host code calls. "" when launched, else why
// not.
#pragma once

#include "gpu/kernels/fused_layer_loop.h"

namespace engram {

const char* LaunchFusedLayer(const FusedLayerShape& shape, const FusedLayerWeights& weights,
                             const FusedLayerBatch& batch, const FusedLayerScratch& scratch,
                             void* stream);

}  // namespace engram
