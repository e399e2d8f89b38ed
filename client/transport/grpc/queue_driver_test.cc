// The driver over a real completion queue: alarms stand for calls, and its clock stands still
// unless a test moves it, so that its own thread comes in when it is told to and not before.
#include "client/transport/grpc/queue_driver.h"

#include <atomic>
#include <thread>

#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "proto/rpc/grpc_time.h"

namespace engram {
namespace {

// A piece of work that is over when it rings. It remembers who was told.
class Work final : public rpc::QueueEvent {
 public:
  explicit Work(QueueDriver& driver) : driver_(driver) { driver_.Begin(1); }

  void Ring() { alarm_.Set(driver_.queue(), rpc::AtOnce(), tag()); }
  bool told() const { return told_.load(); }
  std::thread::id teller() const { return teller_; }

  void Done(bool) override {
    teller_ = std::this_thread::get_id();
    driver_.Finish();
    told_.store(true);
  }

 private:
  QueueDriver& driver_;
  grpc::Alarm alarm_;
  std::thread::id teller_;
  std::atomic<bool> told_{false};
};

// A thread that waits for `done` with the driver. It has looked once before the constructor
// returns: it drives then, or waits for who does.
class Waiter {
 public:
  template <typename Done>
  Waiter(QueueDriver& driver, Done done, MonotonicTime deadline = MonotonicTime::Infinite())
      : thread_([this, &driver, done, deadline] {
          result_ = driver.DriveUntil(
              [&] {
                looked_.store(true);
                return done();
              },
              deadline);
        }) {
    while (!looked_.load()) std::this_thread::yield();
  }
  std::thread::id id() const { return thread_.get_id(); }
  bool Join() {
    thread_.join();
    return result_;
  }

 private:
  std::atomic<bool> looked_{false};
  bool result_ = false;
  std::thread thread_;
};

class QueueDriverTest : public ::testing::Test {
 protected:
  // The driver's own thread waits on the clock whenever it is not idle.
  static constexpr size_t kBackground = 1;

  FakeClock clock_;
  std::shared_ptr<QueueDriver> driver_ = QueueDriver::Create(absl::ZeroDuration(), clock_).value();
};

TEST_F(QueueDriverTest, WhoWaitsDrives) {
  Work work(*driver_);
  work.Ring();
  EXPECT_TRUE(driver_->DriveUntil([&] { return work.told(); }, MonotonicTime::Infinite()));
  EXPECT_EQ(work.teller(), std::this_thread::get_id());
}

TEST_F(QueueDriverTest, WhoeverDrivesTellsEverybodysEvents) {
  Work one(*driver_), other(*driver_);
  Waiter drives(*driver_, [&] { return one.told(); });
  Waiter waits(*driver_, [&] { return other.told(); });
  clock_.AwaitWaiters(kBackground + 1);
  const std::thread::id driver = drives.id();
  other.Ring();
  EXPECT_TRUE(waits.Join());
  EXPECT_EQ(other.teller(), driver);
  one.Ring();
  EXPECT_TRUE(drives.Join());
  EXPECT_EQ(one.teller(), driver);
}

TEST_F(QueueDriverTest, TheRoleIsHandedOverWhenTheDriverHasWhatItWaitedFor) {
  Work first(*driver_), second(*driver_);
  Waiter drives(*driver_, [&] { return first.told(); });
  Waiter takes_over(*driver_, [&] { return second.told(); });
  clock_.AwaitWaiters(kBackground + 1);
  first.Ring();
  EXPECT_TRUE(drives.Join());
  const std::thread::id next = takes_over.id();
  second.Ring();
  EXPECT_TRUE(takes_over.Join());
  EXPECT_EQ(second.teller(), next);
}

TEST_F(QueueDriverTest, AKickMakesTheDriverAndThoseWhoWaitLookAgain) {
  std::atomic<bool> over{false};
  Waiter drives(*driver_, [&] { return over.load(); });
  Waiter waits(*driver_, [&] { return over.load(); });
  clock_.AwaitWaiters(kBackground + 1);
  over.store(true);
  driver_->Kick();
  EXPECT_TRUE(drives.Join());
  EXPECT_TRUE(waits.Join());
  // Once more: the nudge was used up.
  over.store(false);
  Waiter again(*driver_, [&] { return over.load(); });
  over.store(true);
  driver_->Kick();
  EXPECT_TRUE(again.Join());
}

TEST_F(QueueDriverTest, DeadlinesAreTheClocks) {
  const auto never = [] { return false; };
  EXPECT_FALSE(driver_->DriveUntil(never, clock_.Now()));
  // What is there already counts, whatever the time.
  EXPECT_TRUE(driver_->DriveUntil([] { return true; }, clock_.Now()));
  Waiter drives(*driver_, never, clock_.After(absl::Milliseconds(1)));
  Waiter waits(*driver_, never, clock_.After(absl::Milliseconds(1)));
  clock_.AwaitWaiters(kBackground + 1);
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_FALSE(drives.Join());
  EXPECT_FALSE(waits.Join());
}

TEST_F(QueueDriverTest, WhenNobodyWaitsItsOwnThreadDrives) {
  Work work(*driver_);
  work.Ring();
  clock_.AwaitWaiters(kBackground);
  EXPECT_FALSE(work.told());
  while (!work.told()) {
    clock_.Advance(absl::Milliseconds(1));
    std::this_thread::yield();
  }
  EXPECT_NE(work.teller(), std::this_thread::get_id());
}

TEST_F(QueueDriverTest, ItsOwnThreadComesBackFromIdling) {
  for (int round = 0; round < 20; ++round) {
    clock_.Advance(absl::Milliseconds(1));
    std::this_thread::yield();
  }
  Work work(*driver_);
  work.Ring();
  while (!work.told()) {
    clock_.Advance(absl::Milliseconds(1));
    std::this_thread::yield();
  }
  EXPECT_NE(work.teller(), std::this_thread::get_id());
}

TEST_F(QueueDriverTest, TakeReadyTakesAllThatIsThereAndLeavesADriverAlone) {
  driver_->TakeReady();  // nothing
  Work one(*driver_), other(*driver_);
  one.Ring();
  other.Ring();
  driver_->TakeReady();
  EXPECT_TRUE(one.told() && other.told());
  EXPECT_EQ(one.teller(), std::this_thread::get_id());

  Work last(*driver_);
  Waiter drives(*driver_, [&] { return last.told(); });
  driver_->TakeReady();
  last.Ring();
  const std::thread::id driver = drives.id();
  EXPECT_TRUE(drives.Join());
  EXPECT_EQ(last.teller(), driver);
}

// Events are told one at a time: of those that are there none is taken while another thread, which
// drives, is telling one.
TEST_F(QueueDriverTest, TakeReadyTakesNothingWhileADriverTellsAnEvent) {
  struct Held final : rpc::QueueEvent {
    void Done(bool) override {
      begun.store(true);
      while (!released.load()) std::this_thread::yield();
    }
    std::atomic<bool> begun{false}, released{false};
  } held;
  Work work(*driver_);
  Waiter drives(*driver_, [&] { return work.told(); });
  const std::thread::id driver = drives.id();
  grpc::Alarm alarm;
  alarm.Set(driver_->queue(), rpc::AtOnce(), held.tag());
  while (!held.begun.load()) std::this_thread::yield();
  work.Ring();
  driver_->TakeReady();
  EXPECT_FALSE(work.told());
  held.released.store(true);
  EXPECT_TRUE(drives.Join());
  EXPECT_EQ(work.teller(), driver);
}

// Two that share a driver: one goes while a thread of the other's sleeps in the queue.
TEST_F(QueueDriverTest, OneOfTwoGoesWhileTheOtherWaits) {
  Work stays(*driver_);
  Waiter drives(*driver_, [&] { return stays.told(); });
  Work goes(*driver_);
  goes.Ring();
  driver_->DriveOut([&] { return goes.told(); });
  // Nothing of it at all.
  driver_->DriveOut([] { return true; });
  stays.Ring();
  EXPECT_TRUE(drives.Join());
}

// What is told belongs to the one who goes, until the teller has returned from it.
TEST_F(QueueDriverTest, NobodyGoesWhileOneOfItsEventsIsBeingTold) {
  struct Slow final : rpc::QueueEvent {
    void Done(bool) override {
      taken.store(true);
      for (int i = 0; i < 10000; ++i) std::this_thread::yield();
      told.store(true);
    }
    std::atomic<bool> taken{false}, told{false};
  } slow;
  Work stays(*driver_);
  Waiter drives(*driver_, [&] { return stays.told(); });
  grpc::Alarm alarm;
  alarm.Set(driver_->queue(), rpc::AtOnce(), slow.tag());
  while (!slow.taken.load()) std::this_thread::yield();
  driver_->DriveOut([&] { return slow.taken.load(); });
  EXPECT_TRUE(slow.told.load());
  stays.Ring();
  EXPECT_TRUE(drives.Join());
}

// What is told may begin something more, of which the one who goes has an event as well.
TEST_F(QueueDriverTest, NobodyGoesBeforeWhatItsLastEventBeganIsOver) {
  struct Renewed final : rpc::QueueEvent {
    explicit Renewed(QueueDriver& to_drive) : driver(to_drive) {}
    void Done(bool) override {
      const bool last = told;
      if (!last) --events;
      told.store(true);
      for (int i = 0; i < 10000; ++i) std::this_thread::yield();
      if (last) {
        --events;
      } else {
        ++events;
        alarm.Set(driver.queue(), rpc::AtOnce(), tag());
      }
    }
    QueueDriver& driver;
    grpc::Alarm alarm;
    std::atomic<int> events{1};
    std::atomic<bool> told{false};
  } renewed(*driver_);
  Work stays(*driver_);
  Waiter drives(*driver_, [&] { return stays.told(); });
  grpc::Alarm alarm;
  alarm.Set(driver_->queue(), rpc::AtOnce(), renewed.tag());
  while (!renewed.told.load()) std::this_thread::yield();
  driver_->DriveOut([&] { return renewed.events.load() == 0; });
  EXPECT_EQ(renewed.events.load(), 0);
  stays.Ring();
  EXPECT_TRUE(drives.Join());
}

// As happens where the wall clock is set back: the queue sleeps for an hour, and this clock's is
// over.
TEST_F(QueueDriverTest, WhoOversleepsInTheQueueIsWokenByTheDriversThread) {
  Work work(*driver_);
  clock_.AwaitWaiters(kBackground);
  Waiter drives(
      *driver_, [] { return false; }, clock_.After(absl::Hours(1)));
  clock_.Advance(absl::Hours(1) + absl::Seconds(1));
  EXPECT_FALSE(drives.Join());
  work.Ring();
  driver_->TakeReady();
}

// A fake clock by which the first thread that waits never comes back because of the time: of a
// driver's own thread, so that it wakes nobody.
class FirstWaiterSleeps final : public Clock {
 public:
  explicit FirstWaiterSleeps(FakeClock& clock) : clock_(clock) {}

  MonotonicTime Now() const override { return clock_.Now(); }
  bool WaitUntil(CondVar& changed, Mutex& mutex, MonotonicTime deadline) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const std::thread::id self = std::this_thread::get_id();
    std::thread::id first;
    if (!first_.compare_exchange_strong(first, self) && first != self) {
      return clock_.WaitUntil(changed, mutex, deadline);
    }
    changed.Wait(mutex);
    return true;
  }
  void AwaitFirst() const {
    while (first_.load() == std::thread::id()) std::this_thread::yield();
  }

 private:
  FakeClock& clock_;
  std::atomic<std::thread::id> first_{};
};

TEST_F(QueueDriverTest, WhoOversleepsInTheQueueIsWokenByWhoWaits) {
  driver_.reset();  // whose thread waits on the clock as well
  FirstWaiterSleeps clock(clock_);
  const auto driver = QueueDriver::Create(absl::ZeroDuration(), clock).value();
  clock.AwaitFirst();
  Waiter drives(
      *driver, [] { return false; }, clock.After(absl::Hours(1)));
  std::atomic<bool> over{false};
  Waiter waits(*driver, [&] { return over.load(); });
  clock_.AwaitWaiters(1);
  clock_.Advance(absl::Hours(1) + absl::Seconds(1));
  EXPECT_FALSE(drives.Join());
  over.store(true);
  driver->Kick();
  EXPECT_TRUE(waits.Join());
}

// Remembers how it was told.
struct Timer final : rpc::QueueEvent {
  void Done(bool ok) override { (ok ? rang : called_off)++; }
  std::atomic<int> rang{0}, called_off{0};
};

TEST_F(QueueDriverTest, TimersRingInOrderWhenTheirTimeHasCome) {
  Timer first, second;
  driver_->SetTimer(clock_.After(absl::Seconds(2)), second);
  driver_->SetTimer(clock_.After(absl::Seconds(1)), first);
  clock_.Advance(absl::Milliseconds(999));
  driver_->TakeReady();
  EXPECT_EQ(first.rang, 0);
  clock_.Advance(absl::Milliseconds(1));
  driver_->TakeReady();
  EXPECT_EQ(first.rang, 1);
  EXPECT_EQ(second.rang, 0);
  // Set while somebody sleeps in the queue until later.
  Timer earlier;
  Waiter drives(
      *driver_, [&] { return earlier.rang > 0; }, clock_.After(absl::Hours(1)));
  driver_->SetTimer(clock_.Now(), earlier);
  EXPECT_TRUE(drives.Join());
  clock_.Advance(absl::Seconds(1));
  driver_->TakeReady();
  driver_->TakeReady();
  EXPECT_EQ(second.rang, 1);
  EXPECT_EQ(first.rang, 1);
}

TEST_F(QueueDriverTest, WhoSleepsInTheQueueComesBackForATimer) {
  Timer before;
  driver_->SetTimer(clock_.After(absl::Milliseconds(20)), before);
  Waiter drives(
      *driver_, [&] { return before.rang > 0; }, clock_.After(absl::Hours(1)));
  clock_.Advance(absl::Milliseconds(20));
  EXPECT_TRUE(drives.Join());
  // One that is set meanwhile.
  Timer meanwhile;
  Waiter sleeps(
      *driver_, [&] { return meanwhile.rang > 0; }, clock_.After(absl::Hours(1)));
  driver_->SetTimer(clock_.Now(), meanwhile);
  EXPECT_TRUE(sleeps.Join());
}

TEST_F(QueueDriverTest, ATimerThatIsCalledOffIsToldSoOnce) {
  Timer timer, other;
  driver_->SetTimer(clock_.After(absl::Hours(1)), timer);
  driver_->SetTimer(clock_.After(absl::Hours(1)), other);
  Waiter drives(*driver_, [&] { return timer.called_off > 0; });
  driver_->CallOff(timer);
  EXPECT_TRUE(drives.Join());
  driver_->CallOff(timer);  // nothing any more
  clock_.Advance(absl::Hours(1));
  driver_->TakeReady();
  EXPECT_EQ(timer.called_off, 1);
  EXPECT_EQ(timer.rang, 0);
  EXPECT_EQ(other.rang, 1);
}

TEST_F(QueueDriverTest, ItsOwnThreadRingsTimersWhileWorkIsUnderWay) {
  Work work(*driver_);
  Timer timer;
  driver_->SetTimer(clock_.After(absl::Milliseconds(3)), timer);
  while (timer.rang == 0) {
    clock_.Advance(absl::Milliseconds(1));
    std::this_thread::yield();
  }
  work.Ring();
  while (!work.told()) {
    clock_.Advance(absl::Milliseconds(1));
    std::this_thread::yield();
  }
}

TEST_F(QueueDriverTest, ItEndsWithItsThreadNearOrIdle) {
  clock_.AwaitWaiters(kBackground);
  driver_.reset();
  auto idle = QueueDriver::Create(absl::ZeroDuration(), clock_).value();
  for (int round = 0; round < 20; ++round) {
    clock_.Advance(absl::Milliseconds(1));
    std::this_thread::yield();
  }
  idle.reset();
}

TEST(QueueDriverDeathTest, WorkThatFinishesTwiceEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto finish_twice = [] {
    const auto driver = QueueDriver::Create(absl::ZeroDuration()).value();
    driver->Begin(1);
    driver->Finish();
    driver->Finish();
  };
  EXPECT_DEATH(finish_twice(), "finished twice");
}

TEST(QueueDriverDeathTest, WorkThatIsLeftBehindEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto leave = [] { QueueDriver::Create(absl::ZeroDuration()).value()->Begin(1); };
  EXPECT_DEATH(leave(), "left work in the queue");
}

}  // namespace
}  // namespace engram
