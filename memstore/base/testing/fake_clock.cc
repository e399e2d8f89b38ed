#include "memstore/base/testing/fake_clock.h"

#include <algorithm>

namespace engram {

MonotonicTime FakeClock::Now() const {
  MutexLock lock(mutex_);
  return now_;
}

// Advance may run while this thread is between "not yet" and sleep: it takes the waiter's own
// mutex before it notifies, which it gets when the waiter sleeps.
bool FakeClock::WaitUntil(CondVar& changed, Mutex& mutex, MonotonicTime deadline) {
  {
    MutexLock lock(mutex_);
    if (now_ >= deadline) return false;
    waiters_.push_back({&changed, &mutex, deadline});
    waiters_changed_.NotifyAll();
  }
  changed.Wait(mutex);
  MutexLock lock(mutex_);
  const auto own = std::find_if(waiters_.begin(), waiters_.end(), [&](const Waiter& waiter) {
    return waiter.changed == &changed && waiter.mutex == &mutex;
  });
  waiters_.erase(own);
  waiters_changed_.NotifyAll();
  return now_ < deadline;
}

void FakeClock::Advance(absl::Duration span) {
  std::vector<Waiter> waiters;
  {
    MutexLock lock(mutex_);
    now_ += span;
    waiters = waiters_;
  }
  for (const Waiter& waiter : waiters) {
    // A waiter that has gone on meanwhile and destroyed its mutex would be ours to blame: tests
    // keep what their threads wait on until these are joined.
    MutexLock held(*waiter.mutex);
    waiter.changed->NotifyAll();
  }
}

void FakeClock::AwaitWaiters(size_t count) {
  MutexLock lock(mutex_);
  const auto waiting = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return static_cast<size_t>(
        std::count_if(waiters_.begin(), waiters_.end(),
                      [now = now_](const Waiter& waiter) { return waiter.deadline > now; }));
  };
  while (waiting() < count) waiters_changed_.Wait(mutex_);
}

}  // namespace engram
