#include <cuda_runtime.h>

#include "gpu/kernels/dequantize_cuda.h"

namespace engram {
namespace {

constexpr uint32_t kThreadsPerBlock = 256;

template <RowValues kValues, bool kAligned>
__global__ void __launch_bounds__(kThreadsPerBlock)
    DequantizeRows(const DequantizeArguments arguments, const __grid_constant__ E4m3Table table) {
  // Threads look up different bytes at once: shared memory serves them, a kernel's parameters would
  // one after another.
  __shared__ uint16_t shared_table[kValues == RowValues::kE4m3 ? 256 : 1];
  if constexpr (kValues == RowValues::kE4m3) {
    shared_table[threadIdx.x] = table.bf16[threadIdx.x];
    __syncthreads();
  }
  const uint32_t piece = blockIdx.x * kThreadsPerBlock + threadIdx.x;
  if (piece >= arguments.places * PiecesARow(arguments)) return;
  if (!DequantizePiece<kValues, kAligned>(arguments, shared_table, piece)) {
    *static_cast<volatile uint32_t*>(arguments.bad_rows) = 1;
  }
}

template <RowValues kValues>
void Launch(const DequantizeArguments& arguments, const E4m3Table& table, bool aligned,
            cudaStream_t stream) {
  const uint32_t pieces = arguments.places * PiecesARow(arguments);
  const uint32_t blocks = (pieces + kThreadsPerBlock - 1) / kThreadsPerBlock;
  if (aligned) {
    DequantizeRows<kValues, true><<<blocks, kThreadsPerBlock, 0, stream>>>(arguments, table);
  } else {
    DequantizeRows<kValues, false><<<blocks, kThreadsPerBlock, 0, stream>>>(arguments, table);
  }
}

}  // namespace

const char* LaunchDequantize(const DequantizeArguments& arguments, const E4m3Table& table,
                             bool aligned, void* stream) {
  auto* const native = static_cast<cudaStream_t>(stream);
  switch (arguments.values) {
    case RowValues::kBf16:
      Launch<RowValues::kBf16>(arguments, table, aligned, native);
      break;
    case RowValues::kFp16:
      Launch<RowValues::kFp16>(arguments, table, aligned, native);
      break;
    case RowValues::kFp32:
      Launch<RowValues::kFp32>(arguments, table, aligned, native);
      break;
    case RowValues::kE4m3:
      Launch<RowValues::kE4m3>(arguments, table, aligned, native);
      break;
    case RowValues::kE4m3Ue8m0:
      Launch<RowValues::kE4m3Ue8m0>(arguments, table, aligned, native);
      break;
  }
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

}  // namespace engram
