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

template <typename Id, typename Cursor>
Kernel<Id, Cursor> FindAvx2Kernel(uint32_t row_bytes) {
  return KernelForWidth<Id, Cursor>(row_bytes);
}
template Kernel<uint32_t, LandingCursor> FindAvx2Kernel<uint32_t, LandingCursor>(uint32_t);
template Kernel<uint64_t, LandingCursor> FindAvx2Kernel<uint64_t, LandingCursor>(uint32_t);
template Kernel<uint32_t, ListedPlaces> FindAvx2Kernel<uint32_t, ListedPlaces>(uint32_t);
template Kernel<uint64_t, ListedPlaces> FindAvx2Kernel<uint64_t, ListedPlaces>(uint32_t);

}  // namespace engram::gather_internal
