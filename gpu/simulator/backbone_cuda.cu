#include <cuda_runtime.h>

#include <algorithm>

#include "gpu/simulator/backbone_cuda.h"
#include "gpu/simulator/backbone_loop.h"

namespace engram::simulator {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint64_t kMaxBlocks = 8192;

uint32_t Blocks(uint64_t values) {
  return static_cast<uint32_t>(
      std::clamp<uint64_t>((values + kThreads - 1) / kThreads, 1, kMaxBlocks));
}

const char* LastError() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

__device__ uint64_t First() { return uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ uint64_t Stride() { return uint64_t{gridDim.x} * blockDim.x; }

__global__ void Begin(uint16_t* hidden, uint64_t values, uint32_t width) {
  for (uint64_t i = First(); i < values; i += Stride())
    hidden[i] = Bf16OfFloat(FirstHidden(static_cast<uint32_t>(i % width)));
}

__global__ void Add(BlockMemory memory, uint64_t values) {
  for (uint64_t i = First(); i < values; i += Stride()) {
    memory.hidden[i] =
        Bf16OfFloat(AddedTo(FloatOfBf16(memory.hidden[i]), FloatOfBf16(memory.change[i])));
  }
}

__global__ void Gate(BlockMemory memory, uint64_t values, uint32_t width) {
  for (uint64_t i = First(); i < values; i += Stride()) {
    const uint64_t at = i / width * 2 * width + i % width;
    memory.middle[i] =
        Bf16OfFloat(Gated(FloatOfBf16(memory.wide[at]), FloatOfBf16(memory.wide[at + width])));
  }
}

__global__ void Stamp(int64_t* at) {
  uint64_t now = 0;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  *at = static_cast<int64_t>(now);
}

}  // namespace

const char* LaunchFirstHidden(uint16_t* hidden, uint32_t tokens, uint32_t width, void* stream) {
  const uint64_t values = uint64_t{tokens} * width;
  Begin<<<Blocks(values), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(hidden, values, width);
  return LastError();
}

const char* LaunchAdd(const BlockMemory& memory, uint64_t values, void* stream) {
  Add<<<Blocks(values), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(memory, values);
  return LastError();
}

const char* LaunchGated(const BlockMemory& memory, uint32_t tokens, uint32_t feed_forward,
                        void* stream) {
  const uint64_t values = uint64_t{tokens} * feed_forward;
  Gate<<<Blocks(values), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(memory, values,
                                                                           feed_forward);
  return LastError();
}

const char* LaunchStamp(int64_t* at, void* stream) {
  Stamp<<<1, 1, 0, static_cast<cudaStream_t>(stream)>>>(at);
  return LastError();
}

}  // namespace engram::simulator
