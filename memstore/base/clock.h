// Time as everything with a deadline, grace, lease, timeout or estimate sees it: monotonic, passed
// in, and faked in tests (testing/fake_clock.h).
//
// The wall clock may be set at any moment, so it is for people's eyes only (log lines, pages).
// Deadlines that callers give as a span become a MonotonicTime once, at the entry.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <limits>

#include "absl/time/time.h"
#include "memstore/base/mutex.h"

namespace engram {

// A moment of the monotonic clock: nanoseconds since an epoch that has no meaning outside of this
// machine's run. A value, 8 bytes. Arithmetic saturates: Infinite() plus or minus a finite span is
// Infinite(), and the span from any other moment to it is absl::InfiniteDuration(). Between two
// other moments it is exact.
class MonotonicTime {
 public:
  // The epoch: the machine's clock is never before it, so as a deadline it has passed. Only
  // arithmetic leads to moments before it.
  constexpr MonotonicTime() = default;
  static constexpr MonotonicTime FromNanoseconds(int64_t nanoseconds) {
    return MonotonicTime(nanoseconds);
  }
  static constexpr MonotonicTime Infinite() {
    return MonotonicTime(std::numeric_limits<int64_t>::max());
  }

  constexpr int64_t nanoseconds() const { return nanoseconds_; }
  constexpr bool is_infinite() const { return *this == Infinite(); }

  friend constexpr auto operator<=>(MonotonicTime, MonotonicTime) = default;
  friend MonotonicTime operator+(MonotonicTime time, absl::Duration span) {
    return time.Plus(span);
  }
  friend MonotonicTime operator-(MonotonicTime time, absl::Duration span) {
    return time.Plus(-span);
  }
  friend absl::Duration operator-(MonotonicTime a, MonotonicTime b) {
    if (a == b) return absl::ZeroDuration();
    if (a.is_infinite()) return absl::InfiniteDuration();
    if (b.is_infinite()) return -absl::InfiniteDuration();
    int64_t between = 0;
    if (__builtin_sub_overflow(a.nanoseconds_, b.nanoseconds_, &between)) {
      return absl::Nanoseconds(a.nanoseconds_) - absl::Nanoseconds(b.nanoseconds_);
    }
    return absl::Nanoseconds(between);
  }
  MonotonicTime& operator+=(absl::Duration span) { return *this = Plus(span); }

 private:
  explicit constexpr MonotonicTime(int64_t nanoseconds) : nanoseconds_(nanoseconds) {}
  MonotonicTime Plus(absl::Duration span) const;

  int64_t nanoseconds_ = 0;
};

// Thread-safe. Now() costs about 25 ns.
class Clock {
 public:
  virtual ~Clock() = default;

  virtual MonotonicTime Now() const = 0;
  // Gives the mutex back and sleeps until `changed` is notified or `deadline` has come, then takes
  // it again; false where the deadline has come. Wakes without a reason as well.
  virtual bool WaitUntil(CondVar& changed, Mutex& mutex, MonotonicTime deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) = 0;

  // Seldom needed: a thread that sleeps without a way to be woken cannot be ended.
  void SleepFor(absl::Duration span);

  MonotonicTime After(absl::Duration span) const { return Now() + span; }
};

// The machine's monotonic clock (CLOCK_MONOTONIC). It has no state.
Clock& RealClock();

// For standard library calls; a moment that is out of its range becomes the nearest one in it.
std::chrono::steady_clock::time_point ToSteadyTime(MonotonicTime time);

}  // namespace engram
