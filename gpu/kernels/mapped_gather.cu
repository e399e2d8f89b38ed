#include <cuda_runtime.h>

#include "gpu/kernels/mapped_gather_cuda.h"

namespace engram {
namespace {

// A block of this many threads fills half a multiprocessor's slots for threads or more.
constexpr int kThreadsPerBlock = 1024;

template <typename Word>
__global__ void __launch_bounds__(kThreadsPerBlock) Gather(MappedGatherArguments gather) {
  const uint32_t first = blockIdx.x * blockDim.x + threadIdx.x;
  const uint32_t stride = gridDim.x * blockDim.x;
  const bool good = GatherWords(reinterpret_cast<const Word*>(gather.table), gather.from,
                                static_cast<uint32_t>(gather.row_bytes / sizeof(Word)), gather.ids,
                                gather.count, reinterpret_cast<Word*>(gather.rows), first, stride);
  if (!good) *static_cast<volatile uint32_t*>(gather.bad_ids) = 1;
}

template <typename Word>
void Launch(const MappedGatherArguments& gather, uint32_t blocks, cudaStream_t stream) {
  Gather<Word><<<blocks, kThreadsPerBlock, 0, stream>>>(gather);
}

}  // namespace

const char* LaunchMappedGather(const MappedGatherArguments& gather, uint32_t blocks, void* stream) {
  auto* const native = static_cast<cudaStream_t>(stream);
  // Table, rows and row width are aligned alike: the widest word that divides the width.
  if (gather.row_bytes % sizeof(uint4) == 0) {
    Launch<uint4>(gather, blocks, native);
  } else if (gather.row_bytes % sizeof(uint2) == 0) {
    Launch<uint2>(gather, blocks, native);
  } else if (gather.row_bytes % sizeof(uint32_t) == 0) {
    Launch<uint32_t>(gather, blocks, native);
  } else {
    Launch<uint8_t>(gather, blocks, native);
  }
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

}  // namespace engram
