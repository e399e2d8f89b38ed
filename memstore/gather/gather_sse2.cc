// The gather kernels for every x86-64 processor: 16-byte vectors.
#include <cstddef>
#include <cstdint>

#include "memstore/gather/gather_kernels.h"

#define ENGRAM_KERNEL_TARGET
#define ENGRAM_VECTOR_BYTES 16

namespace engram::gather_internal {
namespace {

#include "memstore/gather/gather_kernel_body.inc"

}  // namespace

template <typename Id>
Kernel<Id> FindSse2Kernel(uint32_t row_bytes) {
  return KernelForWidth<Id>(row_bytes);
}
template Kernel<uint32_t> FindSse2Kernel<uint32_t>(uint32_t row_bytes);
template Kernel<uint64_t> FindSse2Kernel<uint64_t>(uint32_t row_bytes);

}  // namespace engram::gather_internal
