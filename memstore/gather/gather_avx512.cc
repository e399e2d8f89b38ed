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

template <typename Id, typename Cursor>
Kernel<Id, Cursor> FindAvx512Kernel(uint32_t row_bytes) {
  return KernelForWidth<Id, Cursor>(row_bytes);
}
template Kernel<uint32_t, LandingCursor> FindAvx512Kernel<uint32_t, LandingCursor>(uint32_t);
template Kernel<uint64_t, LandingCursor> FindAvx512Kernel<uint64_t, LandingCursor>(uint32_t);
template Kernel<uint32_t, ListedPlaces> FindAvx512Kernel<uint32_t, ListedPlaces>(uint32_t);
template Kernel<uint64_t, ListedPlaces> FindAvx512Kernel<uint64_t, ListedPlaces>(uint32_t);

}  // namespace engram::gather_internal
