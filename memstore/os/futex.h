// Waiting for a word in memory that two processes share.
//
// Stateless and thread-safe. Spans are measured by the machine's monotonic clock, the kernel's too,
// and by no other: what is waited for happens in other processes, which no test's clock moves. The
// wait may end for no reason: look again.
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "memstore/base/clock.h"

namespace engram {

// Until somebody wakes the word, at once when it is not `seen` any more, at the latest after
// `most`.
void FutexWait(const std::atomic<uint32_t>& word, uint32_t seen, absl::Duration most);
// All who wait for it.
void FutexWakeAll(const std::atomic<uint32_t>& word);

// Looks some times, a pause apart: about a microsecond, less than a reading of the clock and a
// system call would add to each look.
template <typename Done>
bool LookWithPauses(const Done& done) {
  constexpr int kLooks = 32;  // a pause takes 10 to 50 ns
  for (int i = 0; i < kLooks; ++i) {
    if (done()) return true;
    __builtin_ia32_pause();
  }
  return done();
}

// Looks again and again, without a system call, until `done()` or for about `most`; whether it is.
template <typename Done>
bool SpinUntil(const Done& done, absl::Duration most) {
  if (done()) return true;
  if (most <= absl::ZeroDuration()) return false;
  const MonotonicTime end = RealClock().After(most);
  do {
    if (LookWithPauses(done)) return true;
  } while (RealClock().Now() < end);
  return false;
}

}  // namespace engram
