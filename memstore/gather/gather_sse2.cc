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

template <typename Id, typename Cursor>
Kernel<Id, Cursor> FindSse2Kernel(uint32_t row_bytes) {
  return KernelForWidth<Id, Cursor>(row_bytes);
}
template Kernel<uint32_t, LandingCursor> FindSse2Kernel<uint32_t, LandingCursor>(uint32_t);
template Kernel<uint64_t, LandingCursor> FindSse2Kernel<uint64_t, LandingCursor>(uint32_t);
template Kernel<uint32_t, ListedPlaces> FindSse2Kernel<uint32_t, ListedPlaces>(uint32_t);
template Kernel<uint64_t, ListedPlaces> FindSse2Kernel<uint64_t, ListedPlaces>(uint32_t);

}  // namespace engram::gather_internal
