#include "memstore/os/malloc_tuning.h"

#include <malloc.h>

namespace engram {

void KeepFreedMemory() {
  // The most that glibc takes for M_MMAP_THRESHOLD; it ignores larger values.
  constexpr int kMostBytes = 32 << 20;
  mallopt(M_MMAP_THRESHOLD, kMostBytes);
  mallopt(M_TRIM_THRESHOLD, 2 * kMostBytes);
}

}  // namespace engram
