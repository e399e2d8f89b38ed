#include "memstore/os/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <ctime>

namespace engram {
namespace {

// The kernel's call takes the word's address and leaves the word alone.
uint32_t* AddressOf(const std::atomic<uint32_t>& word) {
  static_assert(sizeof(word) == sizeof(uint32_t) && std::atomic<uint32_t>::is_always_lock_free);
  return reinterpret_cast<uint32_t*>(const_cast<std::atomic<uint32_t>*>(&word));
}

}  // namespace

void FutexWait(const std::atomic<uint32_t>& word, uint32_t seen, absl::Duration most) {
  // FUTEX_WAIT takes a span and measures it by CLOCK_MONOTONIC.
  const timespec time = absl::ToTimespec(std::max(most, absl::ZeroDuration()));
  syscall(SYS_futex, AddressOf(word), FUTEX_WAIT, seen, &time, nullptr, 0);
}

void FutexWakeAll(const std::atomic<uint32_t>& word) {
  syscall(SYS_futex, AddressOf(word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace engram
