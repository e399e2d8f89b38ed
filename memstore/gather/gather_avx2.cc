// The gather kernels for AVX2: 32-byte vectors.
#include <cstddef>
#include <cstdint>

#include "memstore/gather/gather_kernels.h"

#define ENGRAM_KERNEL_TARGET __attribute__((target("avx2")))
#define ENGRAM_VECTOR_BYTES 32

namespace engram::gather_internal {
namespace {

#include "memstore/gather/gather_kernel_body.inc"

}  // namespace

template <typename Id>
Kernel<Id> FindAvx2Kernel(uint32_t row_bytes) {
  return KernelForWidth<Id>(row_bytes);
}
template Kernel<uint32_t> FindAvx2Kernel<uint32_t>(uint32_t row_bytes);
template Kernel<uint64_t> FindAvx2Kernel<uint64_t>(uint32_t row_bytes);

}  // namespace engram::gather_internal
