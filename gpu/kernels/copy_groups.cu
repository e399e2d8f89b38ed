#include <cuda_runtime.h>

#include <algorithm>

#include "gpu/kernels/copy_groups_cuda.h"

namespace engram {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kMaxBlocks = 65535;

// A block a group, a word of eight bytes a thread.
__global__ void CopyGroups(CopyGroupsArguments a) {
  for (uint32_t i = blockIdx.x; i < a.groups; i += gridDim.x) {
    const uint64_t from_at = a.from_at == nullptr ? i : a.from_at[i];
    const auto* const from = reinterpret_cast<const uint64_t*>(a.from + from_at * a.from_stride);
    auto* const to = reinterpret_cast<uint64_t*>(a.to + a.to_at[i] * a.to_stride);
    for (uint32_t word = threadIdx.x; word < a.group_bytes / 8; word += blockDim.x)
      to[word] = from[word];
  }
}

}  // namespace

const char* LaunchCopyGroups(const CopyGroupsArguments& arguments, void* stream) {
  CopyGroups<<<std::min(arguments.groups, kMaxBlocks), kThreads, 0,
               static_cast<cudaStream_t>(stream)>>>(arguments);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

}  // namespace engram
