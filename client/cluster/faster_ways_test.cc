#include "client/cluster/faster_ways.h"

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "client/cluster/testing/hand_stores.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using testing::HandStore;

class FasterWaysTest : public ::testing::Test {
 protected:
  FasterWaysTest()
      : ways_(FasterWays::Start([this](const std::string& address) { return Open(address); },
                                [this](StoreId store, const std::string& address, FasterWay way) {
                                  Opened(store, address, std::move(way));
                                },
                                clock_)
                  .value()) {}

  FasterWay Open(const std::string&) {
    MutexLock lock(mutex_);
    if (!is_there_) return {.why = "not now", .may_come = may_come_};
    return {.transport = std::make_shared<HandStore>(clock_)};
  }
  void Opened(StoreId store, const std::string& address, FasterWay way) {
    MutexLock lock(mutex_);
    told_.push_back(std::to_string(store) + " " + address +
                    (way.transport != nullptr ? "" : ": " + way.why));
    way_ = std::move(way.transport);
    changed_.NotifyAll();
  }
  // What it was told, once that is so much.
  std::vector<std::string> Told(size_t count) {
    MutexLock lock(mutex_);
    while (told_.size() < count) changed_.Wait(mutex_);
    return told_;
  }
  void Set(bool is_there, bool may_come) {
    MutexLock lock(mutex_);
    is_there_ = is_there;
    may_come_ = may_come;
  }

  FakeClock clock_;
  Mutex mutex_;
  CondVar changed_;
  bool is_there_ ABSL_GUARDED_BY(mutex_) = true;
  bool may_come_ ABSL_GUARDED_BY(mutex_) = true;
  std::vector<std::string> told_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<TicketedTransport> way_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<FasterWays> ways_;  // last: its thread uses the others
};

TEST_F(FasterWaysTest, OpensWhatIsWantedOnceAndAgainAfterAPause) {
  ways_->Want(1, "a:1");
  EXPECT_THAT(Told(1), ElementsAre("1 a:1"));
  ways_->Want(1, "a:1");  // it broke
  ways_->Want(1, "a:1");
  clock_.AwaitWaiters(1);
  clock_.Advance(FasterWays::kFirstPause - absl::Milliseconds(1));
  clock_.AwaitWaiters(1);
  EXPECT_EQ(Told(0).size(), 1);
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_THAT(Told(2), ElementsAre("1 a:1", "1 a:1"));
  ways_->Want(1, "b:1");  // it is elsewhere now: that is tried at once
  EXPECT_EQ(Told(3)[2], "1 b:1");
}

TEST_F(FasterWaysTest, WhatMayComeIsTriedAgainAndNothingElse) {
  Set(/*is_there=*/false, /*may_come=*/true);
  ways_->Want(1, "a:1");
  EXPECT_THAT(Told(1), ElementsAre("1 a:1: not now"));
  clock_.AwaitWaiters(1);
  clock_.Advance(FasterWays::kFirstPause);
  Told(2);
  clock_.AwaitWaiters(1);
  Set(/*is_there=*/false, /*may_come=*/false);
  clock_.Advance(FasterWays::kFirstPause);  // the pause is longer by now
  clock_.AwaitWaiters(1);
  EXPECT_EQ(Told(0).size(), 2);
  clock_.Advance(FasterWays::kFirstPause);
  Told(3);
  clock_.AwaitWaiters(1);
  clock_.Advance(FasterWays::kLongestPause);
  clock_.AwaitWaiters(1);
  EXPECT_EQ(Told(0).size(), 3);
}

TEST_F(FasterWaysTest, ClosesATransportOnceNobodyElseHoldsIt) {
  auto transport = std::make_shared<HandStore>(clock_);
  const std::weak_ptr<HandStore> watched = transport;
  std::shared_ptr<TicketedTransport> held = transport;
  ways_->Close(std::move(transport));
  clock_.AwaitWaiters(1);
  EXPECT_FALSE(watched.expired());
  held.reset();
  while (!watched.expired()) {
    clock_.Advance(absl::Milliseconds(50));
    std::this_thread::yield();
  }
}

}  // namespace
}  // namespace engram
