#include "memstore/os/adaptive_spin.h"

#include <unistd.h>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

constexpr absl::Duration kMost = absl::Microseconds(50);
constexpr absl::Duration kLook = absl::Microseconds(1);

// One who waits: each look takes a microsecond of a clock that stands still otherwise.
class Waiter {
 public:
  explicit Waiter(absl::Duration most = kMost,
                  AdaptiveSpin::Crowding crowding = AdaptiveSpin::Crowding::kStopsLooking)
      : spin_(most, clock_, crowding, [this] { return reading_; }) {}

  // A wait for what comes so long after it began.
  void Wait(absl::Duration comes_after) {
    const MonotonicTime there = clock_.Now() + comes_after;
    looks_ = 0;
    slept_ = false;
    spin_.Wait(
        [&] {
          ++looks_;
          clock_.Advance(kLook);
          return clock_.Now() >= there;
        },
        [&] {
          slept_ = true;
          if (there > clock_.Now()) clock_.Advance(there - clock_.Now());
        });
  }
  // The thread has waited for a core for this share of the time from now on.
  void PassTime(absl::Duration span, double waiting_share) {
    clock_.Advance(span);
    if (reading_.has_value()) {
      reading_->delay_ns += absl::ToInt64Nanoseconds(waiting_share * span);
    }
  }

  FakeClock clock_;
  std::optional<RunDelay::Reading> reading_ = RunDelay::Reading{.thread = gettid()};
  AdaptiveSpin spin_;
  int looks_ = 0;
  bool slept_ = false;
};

TEST(AdaptiveSpin, WhatComesSoonIsFoundByLooking) {
  Waiter waiter;
  for (int i = 0; i < 100; ++i) {
    waiter.Wait(kMost / 2);
    EXPECT_FALSE(waiter.slept_);
    EXPECT_EQ(waiter.looks_, 25);
  }
}

TEST(AdaptiveSpin, LooksForNoLongerThanItMay) {
  Waiter waiter;
  waiter.Wait(absl::Milliseconds(1));
  EXPECT_TRUE(waiter.slept_);
  EXPECT_EQ(waiter.looks_, kMost / kLook);
}

TEST(AdaptiveSpin, ZeroNeverLooks) {
  Waiter waiter(absl::ZeroDuration());
  waiter.Wait(absl::ZeroDuration());
  EXPECT_TRUE(waiter.slept_);
  EXPECT_EQ(waiter.looks_, 0);
  EXPECT_FALSE(waiter.spin_.looks());
}

TEST(AdaptiveSpin, StopsWhereLookingDoesNotFindAndBeginsAgainByItself) {
  Waiter waiter;
  int waits = 0;
  do {
    waiter.Wait(absl::Milliseconds(1));
    ASSERT_LT(++waits, 50) << "it goes on looking for what takes a millisecond";
  } while (waiter.looks_ > 0);
  EXPECT_GT(waits, 5) << "one slow reply is no reason to stop";
  for (int i = 0; i < 1000; ++i) {
    waiter.Wait(absl::Milliseconds(1));
    ASSERT_EQ(waiter.looks_, 0);
  }
  // It sleeps, and sees that it need not have.
  waits = 0;
  do {
    waiter.Wait(kMost / 2);
    ASSERT_LT(++waits, 20);
  } while (waiter.looks_ == 0);
  EXPECT_TRUE(waiter.spin_.looks());
}

TEST(AdaptiveSpin, AWaitThatIsLongNowAndThenDoesNotStopIt) {
  Waiter waiter;
  for (int i = 0; i < 1000; ++i) {
    waiter.Wait(i % 2 == 0 ? absl::Milliseconds(1) : kMost / 2);
    EXPECT_GT(waiter.looks_, 0) << i;
  }
}

TEST(AdaptiveSpin, StopsWhereOthersWantTheCoreAndBeginsAgainWhenTheyDoNot) {
  Waiter waiter;
  waiter.Wait(kMost / 2);
  waiter.PassTime(kCrowdedInterval, 0.5);
  waiter.Wait(kMost / 2);
  EXPECT_EQ(waiter.looks_, 0);
  EXPECT_TRUE(waiter.slept_);
  waiter.Wait(kMost / 2);
  EXPECT_EQ(waiter.looks_, 0) << "it is not asked at each wait";
  waiter.PassTime(kLongestPause, 0.001);
  waiter.Wait(kMost / 2);
  EXPECT_GT(waiter.looks_, 0);
}

TEST(AdaptiveSpin, TheFirstPauseLastsAnIntervalAndTheNextTwice) {
  Waiter waiter;
  waiter.Wait(kMost / 2);
  for (const int intervals : {1, 2, 4}) {
    waiter.PassTime(kCrowdedInterval, 0.9);
    for (int i = 0; i < intervals; ++i) {
      waiter.Wait(kMost / 2);
      ASSERT_EQ(waiter.looks_, 0) << i << " of " << intervals;
      waiter.PassTime(kCrowdedInterval, 0);
    }
    waiter.Wait(kMost / 2);
    ASSERT_GT(waiter.looks_, 0) << intervals;
  }
}

// Waits that are too long to be looked through say nothing of what looking would do.
TEST(AdaptiveSpin, IntervalsThatWereSleptThroughDoNotShortenThePause) {
  Waiter waiter;
  waiter.Wait(kMost / 2);
  for (int i = 0; i < 8; ++i) {  // the longest pause
    waiter.PassTime(kCrowdedInterval, 0.9);
    waiter.Wait(kMost / 2);
    ASSERT_EQ(waiter.looks_, 0);
    waiter.PassTime(kLongestPause, 0);
    waiter.Wait(kMost / 2);
    ASSERT_GT(waiter.looks_, 0);
  }
  while (waiter.spin_.looks()) waiter.Wait(absl::Milliseconds(1));
  for (int i = 0; i < 1000; ++i) waiter.Wait(absl::Milliseconds(2));
  while (waiter.looks_ == 0) waiter.Wait(kMost / 2);
  waiter.PassTime(kCrowdedInterval, 0.9);
  waiter.Wait(kMost / 2);
  ASSERT_EQ(waiter.looks_, 0);
  waiter.PassTime(kLongestPause / 4, 0);
  waiter.Wait(kMost / 2);
  EXPECT_EQ(waiter.looks_, 0);
}

// Others want the core whenever it looks, and at no other time: a thread that sleeps waits for
// none.
TEST(AdaptiveSpin, WhereOnlyLookingHarmsItIsTriedSeldom) {
  Waiter waiter;
  int looked = 0, intervals = 0;
  for (; intervals < 2000; ++intervals) {
    waiter.Wait(kMost / 2);
    looked += waiter.looks_ > 0;
    waiter.PassTime(kCrowdedInterval, waiter.looks_ > 0 ? 0.5 : 0);
  }
  EXPECT_GT(looked, 0);
  EXPECT_LT(looked, intervals / 40);
  // And when it harms nobody any more it begins again, for good.
  waiter.PassTime(kLongestPause, 0);
  for (int i = 0; i < 100; ++i) {
    waiter.Wait(kMost / 2);
    waiter.PassTime(kCrowdedInterval, 0);
    ASSERT_GT(waiter.looks_, 0) << i;
  }
  // One bad moment long after that is over soon.
  waiter.PassTime(kCrowdedInterval, 0.9);
  waiter.Wait(kMost / 2);
  ASSERT_EQ(waiter.looks_, 0);
  waiter.PassTime(2 * kCrowdedInterval, 0);
  waiter.Wait(kMost / 2);
  EXPECT_GT(waiter.looks_, 0);
}

TEST(AdaptiveSpin, OneWhoseLooksHarmNobodyGoesByItsWaitsAlone) {
  Waiter waiter(kMost, AdaptiveSpin::Crowding::kHarmless);
  for (int i = 0; i < 20; ++i) {
    waiter.Wait(kMost / 2);
    EXPECT_GT(waiter.looks_, 0) << i;
    waiter.PassTime(kCrowdedInterval, 1);
  }
  for (int i = 0; i < 50; ++i) waiter.Wait(absl::Milliseconds(1));
  EXPECT_EQ(waiter.looks_, 0);
}

TEST(AdaptiveSpin, TwoThreadsFiguresAreNotCompared) {
  Waiter waiter;
  waiter.Wait(kMost / 2);
  std::thread([&] {
    waiter.PassTime(kCrowdedInterval, 1);
    waiter.reading_->thread = gettid();
    waiter.Wait(kMost / 2);
  }).join();
  EXPECT_GT(waiter.looks_, 0);
}

TEST(AdaptiveSpin, WhatWasSeenOnceDoesNotCountForEver) {
  Waiter waiter;
  waiter.Wait(kMost / 2);
  waiter.PassTime(kCrowdedInterval, 0.5);
  waiter.Wait(kMost / 2);
  ASSERT_EQ(waiter.looks_, 0);
  // From now on another thread asks each time.
  int waits = 0;
  do {
    waiter.PassTime(kCrowdedInterval, 0.5);
    ++waiter.reading_->thread;
    waiter.Wait(kMost / 2);
    ASSERT_LT(++waits, 20);
  } while (waiter.looks_ == 0);
  EXPECT_GT(waits, 2);
}

TEST(AdaptiveSpin, WhatIsDoneWithWhatWasFoundIsNotWaitedFor) {
  Waiter waiter;
  for (int i = 0; i < 50; ++i) {
    bool looked = false;
    waiter.spin_.Wait(
        [&] {
          waiter.clock_.Advance(absl::Milliseconds(1));  // of work
          return looked = true;
        },
        [] {});
    ASSERT_TRUE(looked) << i;
  }
}

TEST(AdaptiveSpin, WithoutTheKernelsFigureItGoesByTheWaitsAlone) {
  Waiter waiter;
  waiter.reading_.reset();
  for (int i = 0; i < 100; ++i) {
    waiter.PassTime(kCrowdedInterval, 1);
    waiter.Wait(kMost / 2);
    EXPECT_GT(waiter.looks_, 0);
  }
}

TEST(RunDelay, GrowsWhereMoreThreadsWantToRunThanThereAreCores) {
  RunDelay delay;
  if (!delay.Read().has_value()) GTEST_SKIP() << "the kernel does not count it";
  std::atomic<bool> stop = false;
  std::vector<std::thread> busy;
  for (unsigned i = 0; i < 2 * std::thread::hardware_concurrency(); ++i) {
    busy.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
  }
  const int64_t before = delay.Read()->delay_ns;
  while (delay.Read()->delay_ns <= before + 1'000'000) {
  }
  stop = true;
  for (std::thread& thread : busy) thread.join();
}

TEST(RunDelay, IsReadByOneThreadAfterTheOther) {
  RunDelay delay;
  if (!delay.Read().has_value()) GTEST_SKIP() << "the kernel does not count it";
  for (int i = 0; i < 20; ++i) {
    std::thread([&] { EXPECT_TRUE(delay.Read().has_value()) << i; }).join();
  }
  EXPECT_TRUE(delay.Read().has_value());
}

TEST(RunDelay, SaysWhoseItIs) {
  RunDelay delay;
  const auto here = delay.Read();
  if (!here.has_value()) GTEST_SKIP() << "the kernel does not count it";
  std::thread([&] { EXPECT_NE(delay.Read()->thread, here->thread); }).join();
  EXPECT_EQ(delay.Read()->thread, here->thread);
}

}  // namespace
}  // namespace engram
