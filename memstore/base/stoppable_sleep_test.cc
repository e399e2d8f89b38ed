#include "memstore/base/stoppable_sleep.h"

#include <atomic>
#include <thread>

#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

TEST(StoppableSleep, EndsWhenItsTimeHasCome) {
  FakeClock clock;
  std::stop_source stop;
  std::atomic<bool> over{false};
  std::thread sleeps([&] {
    EXPECT_FALSE(SleepUnlessStopped(clock, absl::Seconds(2), stop.get_token()));
    over.store(true);
  });
  clock.AwaitWaiters(1);
  clock.Advance(absl::Seconds(1));
  clock.AwaitWaiters(1);
  EXPECT_FALSE(over.load());
  clock.Advance(absl::Seconds(1));
  sleeps.join();
}

TEST(StoppableSleep, EndsWhenItIsStoppedHoweverLongItWas) {
  FakeClock clock;
  std::stop_source stop;
  std::thread sleeps(
      [&] { EXPECT_TRUE(SleepUnlessStopped(clock, absl::InfiniteDuration(), stop.get_token())); });
  clock.AwaitWaiters(1);
  stop.request_stop();
  sleeps.join();
}

TEST(StoppableSleep, DoesNotBeginWhereItWasStoppedBefore) {
  FakeClock clock;
  std::stop_source stop;
  stop.request_stop();
  EXPECT_TRUE(SleepUnlessStopped(clock, absl::Hours(1), stop.get_token()));
}

TEST(StoppableSleep, ATokenThatNobodyCanStopIsATimer) {
  FakeClock clock;
  std::thread sleeps(
      [&] { EXPECT_FALSE(SleepUnlessStopped(clock, absl::Seconds(1), std::stop_token())); });
  clock.AwaitWaiters(1);
  clock.Advance(absl::Seconds(1));
  sleeps.join();
}

}  // namespace
}  // namespace engram
