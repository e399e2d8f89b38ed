#include "memstore/base/clock.h"

#include <time.h>

#include <algorithm>

#include "absl/time/clock.h"

namespace engram {
namespace {

constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;

// std::chrono's own waits add a moment's worth of arithmetic to what they are given, so the
// furthest moment is a century away and not the last one that fits.
constexpr int64_t kFurthestNanoseconds = 100LL * 365 * 24 * 3600 * kNanosecondsPerSecond;

class MonotonicClock final : public Clock {
 public:
  MonotonicTime Now() const override {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return MonotonicTime::FromNanoseconds(now.tv_sec * kNanosecondsPerSecond + now.tv_nsec);
  }

  bool WaitUntil(CondVar& changed, Mutex& mutex, MonotonicTime deadline) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (deadline.is_infinite()) {
      changed.Wait(mutex);
      return true;
    }
    changed.WaitUntil(mutex, ToSteadyTime(deadline));
    return Now() < deadline;
  }
};

}  // namespace

MonotonicTime MonotonicTime::Plus(absl::Duration span) const {
  if (is_infinite()) return *this;
  const int64_t more = absl::ToInt64Nanoseconds(span);  // saturates
  int64_t sum = 0;
  if (__builtin_add_overflow(nanoseconds_, more, &sum)) {
    return more > 0 ? Infinite() : MonotonicTime(std::numeric_limits<int64_t>::min());
  }
  return MonotonicTime(sum);
}

void Clock::SleepFor(absl::Duration span) {
  Mutex mutex;
  CondVar never;
  const MonotonicTime end = After(span);
  MutexLock lock(mutex);
  while (WaitUntil(never, mutex, end)) {
  }
}

Clock& RealClock() {
  static MonotonicClock clock;
  return clock;
}

std::chrono::steady_clock::time_point ToSteadyTime(MonotonicTime time) {
  return std::chrono::steady_clock::time_point(
      std::chrono::nanoseconds(std::clamp<int64_t>(time.nanoseconds(), 0, kFurthestNanoseconds)));
}

}  // namespace engram
