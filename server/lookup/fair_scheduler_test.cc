#include "server/lookup/fair_scheduler.h"

#include <map>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

constexpr absl::Duration kNoDeadline = absl::InfiniteDuration();

// A call with messages of one size queued; a turn takes the time that it is told.
class FakeCall final : public FairScheduler::Call {
 public:
  FakeCall(FairScheduler& scheduler, FakeClock& clock, const std::string& client,
           std::vector<FakeCall*>* order = nullptr)
      : scheduler_(scheduler), clock_(clock), order_(order) {
    scheduler.Join(*this, client);
  }
  absl::Status Add(uint64_t work, absl::Duration left = kNoDeadline) {
    uint64_t ahead = 0;
    for (const uint64_t one : queue_) ahead += one;
    const absl::Status status = scheduler_.Admit(*this, ahead, work, left);
    if (!status.ok()) return status;
    queue_.push_back(work);
    scheduler_.Ready(*this);
    return status;
  }
  void TakeTurn() override {
    if (order_ != nullptr) order_->push_back(this);
    clock_.Advance(took);
    const uint64_t work = queue_.back();
    queue_.pop_back();
    done += work;
    scheduler_.Done(*this, work);
    if (!queue_.empty() && !held_up) scheduler_.Ready(*this);
  }
  void DropAll() {
    for (const uint64_t work : queue_) scheduler_.Drop(*this, work);
    queue_.clear();
  }

  uint64_t done = 0;
  absl::Duration took;
  bool held_up = false;  // by its client: the test says when it is ready again

 private:
  FairScheduler& scheduler_;
  FakeClock& clock_;
  std::vector<FakeCall*>* const order_;
  std::vector<uint64_t> queue_;
};

TEST(FairScheduler, ClientsShareEquallyWhateverTheyQueueAndHoweverManyCallsTheyHave) {
  FakeClock clock;
  FairScheduler scheduler(clock);
  FakeCall modest(scheduler, clock, "modest");
  std::vector<std::unique_ptr<FakeCall>> greedy;
  for (int i = 0; i < 10; ++i)
    greedy.push_back(std::make_unique<FakeCall>(scheduler, clock, "greedy"));
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(modest.Add(1000).ok());
    for (const auto& call : greedy) ASSERT_TRUE(call->Add(5000).ok());
  }
  for (int i = 0; i < 60; ++i) scheduler.RunNext();
  uint64_t taken = 0;
  for (const auto& call : greedy) {
    taken += call->done;
    EXPECT_LE(call->done, 5000u) << "its own calls take turns";
  }
  EXPECT_NEAR(static_cast<double>(modest.done), static_cast<double>(taken), 5000);
  modest.DropAll();
}

TEST(FairScheduler, WhoComesBackNeitherCatchesUpNorFallsBehind) {
  FakeClock clock;
  FairScheduler scheduler(clock);
  std::vector<FakeCall*> order;
  FakeCall steady(scheduler, clock, "steady", &order), late(scheduler, clock, "late", &order);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(steady.Add(1000).ok());
  for (int i = 0; i < 50; ++i) scheduler.RunNext();
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(late.Add(1000).ok());
  order.clear();
  for (int i = 0; i < 20; ++i) scheduler.RunNext();
  EXPECT_NEAR(std::count(order.begin(), order.end(), &late), 10, 1);
}

// As unary calls do, each of which goes with its answer.
TEST(FairScheduler, OneCallAfterTheOtherIsNotFirstAgain) {
  FakeClock clock;
  FairScheduler scheduler(clock);
  FakeCall steady(scheduler, clock, "steady");
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(steady.Add(1000).ok());
  uint64_t taken = 0;
  for (int call = 0; call < 20; ++call) {
    FakeCall one(scheduler, clock, "one after the other");
    ASSERT_TRUE(one.Add(4000).ok());
    while (one.done == 0) scheduler.RunNext();
    taken += one.done;
  }
  EXPECT_NEAR(static_cast<double>(steady.done), static_cast<double>(taken), 5000);
  steady.DropAll();
}

TEST(FairScheduler, OfClientsThatAreGoneABoundedNumberIsKnown) {
  FakeClock clock;
  FairScheduler scheduler(clock);
  for (int i = 0; i < 5000; ++i) {
    FakeCall one(scheduler, clock, absl::StrCat("client ", i));
    ASSERT_TRUE(one.Add(1000).ok());
    scheduler.RunNext();
    ASSERT_LE(scheduler.clients(), 1025u);
  }
}

TEST(FairScheduler, TurnsAwayWhatCanNotBeDoneInTime) {
  FakeClock clock;
  FairScheduler scheduler(clock);
  FakeCall call(scheduler, clock, "a");
  call.took = absl::Milliseconds(2);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(call.Add(100000).ok());
  for (int i = 0; i < 50; ++i) scheduler.RunNext();  // learns: 2 ms each
  const absl::Status status = call.Add(100000, absl::Milliseconds(60));
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_NE(status.message().find("engramd is behind"), absl::string_view::npos) << status;
  EXPECT_TRUE(call.Add(100000, absl::Milliseconds(100000)).ok());
  // One that has nothing queued waits for its share alone, not for all of that.
  FakeCall other(scheduler, clock, "b");
  EXPECT_TRUE(other.Add(100000, absl::Milliseconds(60)).ok());
  EXPECT_LT(scheduler.Wait(other, 0, 1000), scheduler.Wait(call, 100000, 1000));
}

TEST(FairScheduler, AClientsOtherCallsAreWaitedForAsOtherClientsAre) {
  FakeClock clock;
  FairScheduler scheduler(clock);
  std::vector<std::unique_ptr<FakeCall>> calls;
  for (int i = 0; i < 8; ++i) {
    calls.push_back(std::make_unique<FakeCall>(scheduler, clock, "one"));
    ASSERT_TRUE(calls.back()->Add(100000).ok());
  }
  FakeCall same(scheduler, clock, "one"), other(scheduler, clock, "other");
  const auto waits = scheduler.Wait(same, 0, 100000);
  EXPECT_GT(waits, 6 * scheduler.Wait(same, 0, 1000));
  // To another client they are one, which has its share.
  EXPECT_LT(2 * scheduler.Wait(other, 0, 100000), waits);
}

// Else a connection's many unary calls would each see one call of every other connection.
TEST(FairScheduler, OtherClientsAreWaitedForAsLongAsAllThatGoesBeforeOfOnesOwn) {
  FakeClock clock;
  FairScheduler scheduler(clock);
  std::vector<std::unique_ptr<FakeCall>> calls;
  const auto add = [&](const char* client, int count) {
    for (int i = 0; i < count; ++i) {
      calls.push_back(std::make_unique<FakeCall>(scheduler, clock, client));
      ASSERT_TRUE(calls.back()->Add(100000).ok());
    }
  };
  add("one", 7);
  FakeCall next(scheduler, clock, "one");
  const absl::Duration alone = scheduler.Wait(next, 0, 100000);
  add("other", 20);
  const absl::Duration beside_another = scheduler.Wait(next, 0, 100000);
  EXPECT_NEAR(absl::FDivDuration(beside_another, alone), 2, 0.01) << "eight turns each";
  add("third", 4);
  EXPECT_NEAR(absl::FDivDuration(scheduler.Wait(next, 0, 100000), alone), 2.5, 0.01)
      << "it has but four";
}

TEST(FairScheduler, AThirdOfABatchsTimeIsLeftForItsWay) {
  FakeClock clock;
  FairScheduler scheduler(clock);
  FakeCall call(scheduler, clock, "a");
  call.took = absl::Milliseconds(1);
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(call.Add(100000).ok());
  for (int i = 0; i < 180; ++i) scheduler.RunNext();  // learns: 1 ms each, of which 20 are left
  EXPECT_FALSE(call.Add(100000, absl::Milliseconds(30)).ok());
  EXPECT_TRUE(call.Add(100000, absl::Milliseconds(33)).ok());
}

TEST(FairScheduler, EachMessageOfABatchCountsForMoreThanItsRows) {
  EXPECT_EQ(FairScheduler::Work(0), 0u);
  const uint64_t fixed = FairScheduler::Work(1) - 1;
  EXPECT_GT(fixed, 0u);
  EXPECT_EQ(FairScheduler::Work(kStreamMessageBytes), kStreamMessageBytes + fixed);
  EXPECT_EQ(FairScheduler::Work(5 * kStreamMessageBytes + 1),
            5 * kStreamMessageBytes + 1 + 6 * fixed);
}

TEST(FairScheduler, WhereNothingIsQueuedNothingIsTurnedAway) {
  FakeClock clock;
  FairScheduler scheduler(clock);
  FakeCall call(scheduler, clock, "a");
  EXPECT_TRUE(call.Add(uint64_t{1} << 40, absl::Microseconds(1)).ok());
  EXPECT_FALSE(call.Add(1000, absl::Milliseconds(1)).ok());
  call.DropAll();
  EXPECT_TRUE(call.Add(1000, absl::Nanoseconds(1)).ok());
}

TEST(FairScheduler, AClientThatWasSlowOnceIsTriedAgain) {
  FakeClock clock;
  FairScheduler scheduler(clock);
  FakeCall call(scheduler, clock, "a");
  call.took = absl::Milliseconds(20);
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(call.Add(100000).ok());
    scheduler.RunNext();
  }
  call.took = absl::Microseconds(0);
  int tries = 0;
  for (; tries < 200; ++tries) {
    // Its loop is measured anew by others.
    FakeCall other(scheduler, clock, "b");
    ASSERT_TRUE(other.Add(100000).ok());
    scheduler.RunNext();
    if (call.Add(100000, absl::Milliseconds(5)).ok()) break;
  }
  EXPECT_LT(tries, 200);
}

TEST(FairScheduler, AClientThatTakesItsAnswersSlowlyWaitsByItsOwnRate) {
  FakeClock clock;
  FairScheduler scheduler(clock);
  FakeCall slow(scheduler, clock, "slow");
  slow.held_up = true;
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(slow.Add(100000).ok());
  for (int i = 0; i < 39; ++i) {
    scheduler.RunNext();
    clock.Advance(absl::Milliseconds(1));
    scheduler.Ready(slow);
  }
  // Two milliseconds, and half as much for their way, though the loop does nothing meanwhile.
  EXPECT_GT(scheduler.Wait(slow, 100000, 100000), absl::Milliseconds(2));
  EXPECT_LT(scheduler.Wait(slow, 100000, 100000), absl::Milliseconds(4));
  FakeCall quick(scheduler, clock, "quick");
  EXPECT_LT(scheduler.Wait(quick, 0, 100000), absl::Milliseconds(1));
  slow.DropAll();
}

TEST(FairScheduler, ACallThatGoesTakesWhatItQueuedWithIt) {
  FakeClock clock;
  FairScheduler scheduler(clock);
  FakeCall stays(scheduler, clock, "a");
  {
    FakeCall goes(scheduler, clock, "a");
    ASSERT_TRUE(goes.Add(1 << 30).ok());
    ASSERT_TRUE(stays.Add(1000).ok());
  }
  EXPECT_LT(scheduler.Wait(stays, 1000, 1000), absl::Milliseconds(1));
  ASSERT_FALSE(scheduler.Empty());
  scheduler.RunNext();
  EXPECT_EQ(stays.done, 1000u);
  EXPECT_TRUE(scheduler.Empty());
}

// What it would have to wait for is nothing, so "it is behind" would be wrong.
TEST(FairScheduler, ABatchWithoutTimeIsToldSoWhereNothingIsInItsWay) {
  FakeClock clock;
  FairScheduler scheduler(clock);
  FakeCall call(scheduler, clock, "a");
  const absl::Status over = call.Add(1000, absl::Microseconds(-3));
  EXPECT_EQ(over.code(), absl::StatusCode::kDeadlineExceeded) << over;
  EXPECT_NE(over.message().find("timeout_us"), absl::string_view::npos) << over;
  ASSERT_TRUE(call.Add(1000).ok());
  // Less than a microsecond is not none.
  FakeCall other(scheduler, clock, "b");
  const absl::Status behind = other.Add(1000, absl::Microseconds(-3));
  EXPECT_EQ(behind.code(), absl::StatusCode::kResourceExhausted) << behind;
  EXPECT_EQ(behind.message().find("take 0 us"), absl::string_view::npos) << behind;
  call.DropAll();
}

}  // namespace
}  // namespace engram
