#include "server/lookup/fair_scheduler.h"

#include <map>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using std::chrono::milliseconds;

constexpr auto kNoDeadline = Turns::Clock::duration::max();

// A call with messages of one size queued; a turn takes the time that it is told.
class FakeCall final : public Turns::Call {
 public:
  FakeCall(Turns& turns, const std::string& client, std::vector<FakeCall*>* order = nullptr)
      : turns_(turns), order_(order) {
    turns.Join(*this, client);
  }
  absl::Status Add(uint64_t work, Turns::Clock::duration left = kNoDeadline) {
    uint64_t ahead = 0;
    for (const uint64_t one : queue_) ahead += one;
    const absl::Status status = turns_.Admit(*this, ahead, work, left);
    if (!status.ok()) return status;
    queue_.push_back(work);
    turns_.Ready(*this);
    return status;
  }
  void TakeTurn() override {
    if (order_ != nullptr) order_->push_back(this);
    if (took.count() > 0) std::this_thread::sleep_for(took);
    const uint64_t work = queue_.back();
    queue_.pop_back();
    done += work;
    turns_.Done(*this, work);
    if (!queue_.empty()) turns_.Ready(*this);
  }
  void DropAll() {
    for (const uint64_t work : queue_) turns_.Drop(*this, work);
    queue_.clear();
  }

  uint64_t done = 0;
  std::chrono::microseconds took{0};

 private:
  Turns& turns_;
  std::vector<FakeCall*>* const order_;
  std::vector<uint64_t> queue_;
};

TEST(Turns, ClientsShareEquallyWhateverTheyQueueAndHoweverManyCallsTheyHave) {
  Turns turns;
  FakeCall modest(turns, "modest");
  std::vector<std::unique_ptr<FakeCall>> greedy;
  for (int i = 0; i < 10; ++i) greedy.push_back(std::make_unique<FakeCall>(turns, "greedy"));
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(modest.Add(1000).ok());
    for (const auto& call : greedy) ASSERT_TRUE(call->Add(5000).ok());
  }
  for (int i = 0; i < 60; ++i) turns.RunNext();
  uint64_t taken = 0;
  for (const auto& call : greedy) {
    taken += call->done;
    EXPECT_LE(call->done, 5000u) << "its own calls take turns";
  }
  EXPECT_NEAR(static_cast<double>(modest.done), static_cast<double>(taken), 5000);
  modest.DropAll();
}

TEST(Turns, WhoComesBackNeitherCatchesUpNorFallsBehind) {
  Turns turns;
  std::vector<FakeCall*> order;
  FakeCall steady(turns, "steady", &order), late(turns, "late", &order);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(steady.Add(1000).ok());
  for (int i = 0; i < 50; ++i) turns.RunNext();
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(late.Add(1000).ok());
  order.clear();
  for (int i = 0; i < 20; ++i) turns.RunNext();
  EXPECT_NEAR(std::count(order.begin(), order.end(), &late), 10, 1);
}

TEST(Turns, TurnsAwayWhatCanNotBeDoneInTime) {
  Turns turns;
  FakeCall call(turns, "a");
  call.took = milliseconds(2);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(call.Add(100000).ok());
  for (int i = 0; i < 50; ++i) turns.RunNext();  // learns: 2 ms each
  const absl::Status status = call.Add(100000, milliseconds(60));
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_NE(status.message().find("engramd is behind"), absl::string_view::npos) << status;
  EXPECT_TRUE(call.Add(100000, milliseconds(100000)).ok());
  // One that has nothing queued waits for its share alone, not for all of that.
  FakeCall other(turns, "b");
  EXPECT_TRUE(other.Add(100000, milliseconds(60)).ok());
  EXPECT_LT(turns.Wait(other, 0, 1000), turns.Wait(call, 100000, 1000));
}

TEST(Turns, AClientsOtherCallsAreWaitedForAsOtherClientsAre) {
  Turns turns;
  std::vector<std::unique_ptr<FakeCall>> calls;
  for (int i = 0; i < 8; ++i) {
    calls.push_back(std::make_unique<FakeCall>(turns, "one"));
    ASSERT_TRUE(calls.back()->Add(100000).ok());
  }
  FakeCall same(turns, "one"), other(turns, "other");
  const auto waits = turns.Wait(same, 0, 100000);
  EXPECT_GT(waits, 6 * turns.Wait(same, 0, 1000));
  // To another client they are one, which has its share.
  EXPECT_LT(2 * turns.Wait(other, 0, 100000), waits);
}

TEST(Turns, WhereNothingIsQueuedNothingIsTurnedAway) {
  Turns turns;
  FakeCall call(turns, "a");
  EXPECT_TRUE(call.Add(uint64_t{1} << 40, std::chrono::microseconds(1)).ok());
  EXPECT_FALSE(call.Add(1000, milliseconds(1)).ok());
  call.DropAll();
  EXPECT_TRUE(call.Add(1000, std::chrono::nanoseconds(1)).ok());
}

TEST(Turns, AClientThatWasSlowOnceIsTriedAgain) {
  Turns turns;
  FakeCall call(turns, "a");
  call.took = milliseconds(20);
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(call.Add(100000).ok());
    turns.RunNext();
  }
  call.took = std::chrono::microseconds(0);
  int tries = 0;
  for (; tries < 200; ++tries) {
    // Its loop is measured anew by others.
    FakeCall other(turns, "b");
    ASSERT_TRUE(other.Add(100000).ok());
    turns.RunNext();
    if (call.Add(100000, milliseconds(5)).ok()) break;
  }
  EXPECT_LT(tries, 200);
}

TEST(Turns, ACallThatGoesTakesWhatItQueuedWithIt) {
  Turns turns;
  FakeCall stays(turns, "a");
  {
    FakeCall goes(turns, "a");
    ASSERT_TRUE(goes.Add(1 << 30).ok());
    ASSERT_TRUE(stays.Add(1000).ok());
  }
  EXPECT_LT(turns.Wait(stays, 1000, 1000), milliseconds(1));
  ASSERT_FALSE(turns.Empty());
  turns.RunNext();
  EXPECT_EQ(stays.done, 1000u);
  EXPECT_TRUE(turns.Empty());
}

}  // namespace
}  // namespace engram
