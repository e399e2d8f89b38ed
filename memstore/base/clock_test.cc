#include "memstore/base/clock.h"

#include <thread>

#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

TEST(MonotonicTime, ArithmeticSaturates) {
  const MonotonicTime some = MonotonicTime::FromNanoseconds(5);
  EXPECT_EQ(some + absl::Nanoseconds(2), MonotonicTime::FromNanoseconds(7));
  EXPECT_EQ(some - absl::Nanoseconds(2), MonotonicTime::FromNanoseconds(3));
  EXPECT_EQ(some + absl::InfiniteDuration(), MonotonicTime::Infinite());
  EXPECT_EQ(MonotonicTime::Infinite() - absl::Hours(1), MonotonicTime::Infinite());
  EXPECT_LT(some - absl::InfiniteDuration(), MonotonicTime());
  EXPECT_EQ(MonotonicTime::Infinite() - some, absl::InfiniteDuration());
  EXPECT_EQ(some - MonotonicTime::Infinite(), -absl::InfiniteDuration());
  EXPECT_EQ(MonotonicTime::Infinite() - MonotonicTime::Infinite(), absl::ZeroDuration());
  EXPECT_LT(some, MonotonicTime::Infinite());
  const MonotonicTime first = some - absl::InfiniteDuration();
  EXPECT_EQ(some - first, absl::Nanoseconds(5) - absl::Nanoseconds(first.nanoseconds()));
  EXPECT_EQ(first - some, absl::Nanoseconds(first.nanoseconds()) - absl::Nanoseconds(5));
}

TEST(RealClock, GoesOnAndEndsWaits) {
  Clock& clock = RealClock();
  const MonotonicTime before = clock.Now();
  Mutex mutex;
  CondVar changed;
  MutexLock lock(mutex);
  while (clock.WaitUntil(changed, mutex, before + absl::Milliseconds(2))) {
  }
  EXPECT_GE(clock.Now() - before, absl::Milliseconds(2));
}

TEST(RealClock, WaitsOfAllLengthsAreOver) {
  Mutex mutex;
  CondVar changed;
  MutexLock lock(mutex);
  EXPECT_FALSE(RealClock().WaitUntil(changed, mutex, MonotonicTime()));
  EXPECT_FALSE(RealClock().WaitUntil(changed, mutex, MonotonicTime() - absl::InfiniteDuration()));
}

TEST(RealClock, AWaitWithoutEndIsEndedByANotification) {
  Mutex mutex;
  CondVar changed;
  bool done = false;
  std::thread other([&] {
    MutexLock lock(mutex);
    done = true;
    changed.NotifyAll();
  });
  {
    MutexLock lock(mutex);
    while (!done) RealClock().WaitUntil(changed, mutex, MonotonicTime::Infinite());
  }
  other.join();
}

TEST(RealClock, AFarDeadlineDoesNotOverflow) {
  Mutex mutex;
  CondVar changed;
  bool done = false;
  std::thread other([&] {
    MutexLock lock(mutex);
    done = true;
    changed.NotifyAll();
  });
  {
    MutexLock lock(mutex);
    const MonotonicTime far = MonotonicTime::FromNanoseconds(INT64_MAX - 1);
    while (!done) EXPECT_TRUE(RealClock().WaitUntil(changed, mutex, far));
  }
  other.join();
}

TEST(FakeClock, WakesItsWaitersWhenItIsMoved) {
  FakeClock clock;
  Mutex mutex;
  CondVar changed;
  bool ended = false;
  const MonotonicTime deadline = clock.After(absl::Seconds(10));
  std::thread waiter([&] {
    MutexLock lock(mutex);
    while (clock.WaitUntil(changed, mutex, deadline)) {
    }
    ended = true;
  });
  clock.AwaitWaiters(1);
  clock.Advance(absl::Seconds(9));
  clock.AwaitWaiters(1);
  {
    MutexLock lock(mutex);
    EXPECT_FALSE(ended);
  }
  clock.Advance(absl::Seconds(1));
  waiter.join();
  EXPECT_TRUE(ended);
}

TEST(FakeClock, PassesNotificationsOn) {
  FakeClock clock;
  Mutex mutex;
  CondVar changed;
  bool done = false;
  std::thread waiter([&] {
    MutexLock lock(mutex);
    while (!done) EXPECT_TRUE(clock.WaitUntil(changed, mutex, MonotonicTime::Infinite()));
  });
  clock.AwaitWaiters(1);
  {
    MutexLock lock(mutex);
    done = true;
    changed.NotifyAll();
  }
  waiter.join();
}

}  // namespace
}  // namespace engram
