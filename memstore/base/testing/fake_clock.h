// A clock that stands still until a test moves it.
//
// Thread-safe. Advance() wakes every thread that waits on it, with the thread's own mutex held in
// between, so no wake-up is lost. The real clock is never asked.
#pragma once

#include <cstddef>
#include <vector>

#include "memstore/base/clock.h"

namespace engram {

class FakeClock final : public Clock {
 public:
  // An odd number of seconds, so that a test which takes the real clock by mistake is far off.
  explicit FakeClock(MonotonicTime start = MonotonicTime() + absl::Seconds(1'000'003))
      : now_(start) {}

  MonotonicTime Now() const override;
  bool WaitUntil(CondVar& changed, Mutex& mutex, MonotonicTime deadline) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  void Advance(absl::Duration span);

  // Returns once at least this many threads wait on the clock for what is to come: before Advance,
  // where a test must know that its thread has come to wait, and after it, where the thread is to
  // have done what it waited for and to wait again.
  void AwaitWaiters(size_t count);

 private:
  struct Waiter {
    CondVar* changed;
    Mutex* mutex;
    MonotonicTime deadline;
  };

  mutable Mutex mutex_;
  CondVar waiters_changed_;
  MonotonicTime now_ ABSL_GUARDED_BY(mutex_);
  std::vector<Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
