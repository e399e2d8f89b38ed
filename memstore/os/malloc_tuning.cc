#include "memstore/os/malloc_tuning.h"

#include <malloc.h>
#include <sys/resource.h>

namespace engram {

void KeepFreedMemory() {
  // The most that glibc takes for M_MMAP_THRESHOLD; it ignores larger values.
  constexpr int kMostBytes = 32 << 20;
  mallopt(M_MMAP_THRESHOLD, kMostBytes);
  mallopt(M_TRIM_THRESHOLD, 2 * kMostBytes);
  constexpr int kPoolsWhereLimited = 2;
  rlimit limit{};
  const bool is_limited = getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  if (is_limited) mallopt(M_ARENA_MAX, kPoolsWhereLimited);
}

}  // namespace engram
