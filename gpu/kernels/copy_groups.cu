#include <cuda_runtime.h>

#include <algorithm>

#include "gpu/kernels/copy_groups_cuda.h"

namespace engram {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kMaxBlocks = 65535;

// A block a group, a word a thread.
template <typename Word>
__global__ void CopyGroups(CopyGroupsArguments a) {
  const uint32_t row_words = a.row_bytes / sizeof(Word);
  for (uint32_t i = blockIdx.x; i < a.groups; i += gridDim.x) {
    const auto* const from = reinterpret_cast<const Word*>(a.from + a.from_at[i] * a.from_stride);
    auto* const to = reinterpret_cast<Word*>(a.to + a.to_at[i] * a.to_stride);
    const uint32_t words = a.rows[i] * row_words;
    for (uint32_t word = threadIdx.x; word < words; word += blockDim.x) to[word] = from[word];
  }
}

template <typename Word>
void Launch(const CopyGroupsArguments& arguments, void* stream) {
  CopyGroups<Word>
      <<<std::min(arguments.groups, kMaxBlocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
          arguments);
}

}  // namespace

const char* LaunchCopyGroups(const CopyGroupsArguments& arguments, void* stream) {
  if (arguments.row_bytes % sizeof(uint64_t) == 0) {
    Launch<uint64_t>(arguments, stream);
  } else if (arguments.row_bytes % sizeof(uint32_t) == 0) {
    Launch<uint32_t>(arguments, stream);
  } else if (arguments.row_bytes % sizeof(uint16_t) == 0) {
    Launch<uint16_t>(arguments, stream);
  } else {
    Launch<uint8_t>(arguments, stream);
  }
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

}  // namespace engram
