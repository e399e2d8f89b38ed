// The gather kernels for AVX-512: 64-byte vectors.
#include <cstddef>
#include <cstdint>

#include "memstore/gather/gather_kernels.h"

#define ENGRAM_KERNEL_TARGET __attribute__((target("avx512f,avx512bw,avx512vl")))
#define ENGRAM_VECTOR_BYTES 64

namespace engram::gather_internal {
namespace {

#include "memstore/gather/gather_kernel_body.inc"

}  // namespace

template <typename Id>
Kernel<Id> FindAvx512Kernel(uint32_t row_bytes) {
  return KernelForWidth<Id>(row_bytes);
}
template Kernel<uint32_t> FindAvx512Kernel<uint32_t>(uint32_t row_bytes);
template Kernel<uint64_t> FindAvx512Kernel<uint64_t>(uint32_t row_bytes);

}  // namespace engram::gather_internal
