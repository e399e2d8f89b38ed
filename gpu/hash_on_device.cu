#include <cuda_runtime.h>

#include "gpu/hash_on_device.h"
#include "memstore/addressing/ngram_hash.h"

namespace engram {
namespace {

constexpr int kThreadsPerBlock = 256;

__global__ void HashWindows(const uint32_t* windows, uint64_t count, uint32_t order,
                            const uint64_t* multipliers, Reciprocal reciprocal, uint64_t offset,
                            uint64_t* rows) {
  const uint64_t i = blockIdx.x * static_cast<uint64_t>(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  rows[i] = Modulo(XorMix(windows + i * order, multipliers, order), reciprocal) + offset;
}

// Device memory for as long as the call lasts.
struct DeviceBuffer {
  void* data = nullptr;
  ~DeviceBuffer() { cudaFree(data); }
};

}  // namespace

std::string DeviceUnavailableReason() {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess) return std::string("no CUDA device: ") + cudaGetErrorString(error);
  return devices > 0 ? "" : "no CUDA device";
}

std::string HashOnDevice(const uint32_t* windows, uint64_t count, uint32_t order,
                         const uint64_t* multipliers, uint64_t modulus, uint64_t offset,
                         uint64_t* rows) {
  DeviceBuffer ids, factors, out;
  const uint64_t id_bytes = count * order * sizeof(uint32_t);
  const uint64_t row_bytes = count * sizeof(uint64_t);
  cudaError_t error = cudaMalloc(&ids.data, id_bytes);
  if (error == cudaSuccess) error = cudaMalloc(&factors.data, order * sizeof(uint64_t));
  if (error == cudaSuccess) error = cudaMalloc(&out.data, row_bytes);
  if (error == cudaSuccess) error = cudaMemcpy(ids.data, windows, id_bytes, cudaMemcpyDefault);
  if (error == cudaSuccess) {
    error = cudaMemcpy(factors.data, multipliers, order * sizeof(uint64_t), cudaMemcpyDefault);
  }
  if (error == cudaSuccess) {
    const uint64_t blocks = (count + kThreadsPerBlock - 1) / kThreadsPerBlock;
    HashWindows<<<static_cast<unsigned>(blocks), kThreadsPerBlock>>>(
        static_cast<const uint32_t*>(ids.data), count, order,
        static_cast<const uint64_t*>(factors.data), MakeReciprocal(modulus), offset,
        static_cast<uint64_t*>(out.data));
    error = cudaGetLastError();
  }
  if (error == cudaSuccess) error = cudaMemcpy(rows, out.data, row_bytes, cudaMemcpyDefault);
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

}  // namespace engram
