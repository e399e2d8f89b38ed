// The CUDA kernel of dequantize.h.
#pragma once

#include "gpu/kernels/dequantize_loop.h"

namespace engram {

// Launches it on a cudaStream_t. `aligned`: as DequantizePiece wants it. The table is copied with
// the launch. "" or the device's error.
const char* LaunchDequantize(const DequantizeArguments& arguments, const E4m3Table& table,
                             bool aligned, void* stream);

}  // namespace engram
