#include "client/transport/rdma/rdma_exchange.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

// What was done to connections, in order: "open 2", "send 2:1" (a batch, by its number, over the
// second connection), "close 1".
using Events = std::vector<std::string>;

// A connection that sends whole batches and completes what a test says.
struct FakeConnection {
  int number = 0;
  bool closed = false;
  bool told_closed_first = true;  // nothing was forgotten before Close
  absl::Status ended;             // the lease's word
  absl::Status failure;           // what the next look for completions finds
  std::vector<std::shared_ptr<RdmaBatch>> under_way;
  std::atomic<uint32_t> to_answer{0};            // of those under way, by the next look
  std::atomic<uint32_t> after_sleep{0};          // the same, once somebody slept
  absl::Duration sleeps = absl::ZeroDuration();  // what a sleep takes; else all that is allowed
  RdmaCounts counts;
};

class FakeLink final : public RdmaLink {
 public:
  FakeLink(std::shared_ptr<FakeConnection> connection, Events* events, FakeClock* clock)
      : connection_(std::move(connection)), events_(events), clock_(clock) {}
  void Close() override {
    connection_->closed = true;
    events_->push_back(absl::StrCat("close ", connection_->number));
  }
  absl::Status Ended() const override { return connection_->ended; }
  bool Arm() override { return true; }
  void Sleep(absl::Duration most) override {
    clock_->Advance(connection_->sleeps > absl::ZeroDuration() ? connection_->sleeps : most);
    connection_->to_answer += connection_->after_sleep.exchange(0);
  }
  RdmaCounts Counts() const override { return connection_->counts; }
  void BreakForTest() override { connection_->failure = absl::UnavailableError("broken"); }

 private:
  const std::shared_ptr<FakeConnection> connection_;
  Events* const events_;
  FakeClock* const clock_;
};

class FakeWay final : public RequestWay {
 public:
  FakeWay(std::shared_ptr<FakeConnection> connection, Events* events)
      : connection_(std::move(connection)), events_(events) {}
  absl::Status Send(RdmaSendQueue& queue) override {
    while (const std::shared_ptr<RdmaBatch> batch = queue.Next()) {
      EXPECT_FALSE(connection_->closed);
      while (!batch->AllWritten()) static_cast<void>(batch->NextRead());
      ++batch->requests_out;
      connection_->under_way.push_back(batch);
      events_->push_back(absl::StrCat("send ", batch->number, ":", connection_->number));
    }
    return absl::OkStatus();
  }
  absl::StatusOr<bool> TakeCompletions() override {
    if (!connection_->failure.ok()) return connection_->failure;
    const bool some = connection_->to_answer > 0;
    for (; connection_->to_answer > 0; --connection_->to_answer) {
      ++connection_->counts.completions;
      const std::shared_ptr<RdmaBatch> batch = connection_->under_way.front();
      connection_->under_way.erase(connection_->under_way.begin());
      batch->LandAll();
      batch->EndRequest();
    }
    return some;
  }
  void ForgetAll(std::vector<std::shared_ptr<RdmaBatch>>* batches) override {
    connection_->told_closed_first = connection_->closed;
    for (auto& batch : connection_->under_way) batches->push_back(batch);
    for (auto& batch : connection_->under_way) batches->push_back(std::move(batch));  // twice
    connection_->under_way.clear();
  }

 private:
  const std::shared_ptr<FakeConnection> connection_;
  Events* const events_;
};

class RdmaExchangeTest : public ::testing::Test {
 protected:
  RdmaExchangeTest() {
    manifest_.scheme.max_order = 2;
    manifest_.scheme.heads_per_order = 1;
    manifest_.layers.push_back(
        {.layer = 1, .rows = 10, .row_bytes = 8, .encoding = {}, .shards = {}});
    Make(true);
  }
  void Make(bool resend) {
    exchange_.reset();
    connections_.clear();
    events_.clear();
    exchange_ = std::make_unique<RdmaExchange>(
        Connection(),
        [this](MonotonicTime) -> absl::StatusOr<RdmaOpened> {
          if (!refuse_.ok()) return refuse_;
          return Connection();
        },
        RdmaExchangeOptions{.address = "owner:1",
                            .spin = absl::ZeroDuration(),
                            .resend = resend,
                            .clock = &clock_});
  }
  RdmaOpened Connection() {
    auto connection = std::make_shared<FakeConnection>();
    connection->number = static_cast<int>(connections_.size()) + 1;
    connection->after_sleep = answers_of_next_;
    connections_.push_back(connection);
    events_.push_back(absl::StrCat("open ", connection->number));
    return {.link = std::make_shared<FakeLink>(connection, &events_, &clock_),
            .way = std::make_unique<FakeWay>(connection, &events_)};
  }
  absl::StatusOr<Ticket> Submit(absl::Duration time = absl::Hours(2)) {
    static constexpr RowId kRow = 3;
    const LayerRequest layer{.layer = 1, .row_ids = {&kRow, 1}, .landing = {.data = memory_}};
    return exchange_->Submit(clock_.After(time), [&](RdmaBatch& batch) {
      return batch.Take({.layers = {&layer, 1}, .deadline = clock_.After(time)}, manifest_,
                        [](const std::byte*, uint64_t) { return RdmaLandingPlace{}; });
    });
  }
  FakeConnection& connection(size_t number) { return *connections_[number - 1]; }

  FakeClock clock_;
  Manifest manifest_;
  std::byte memory_[8] = {};
  Events events_;
  uint32_t answers_of_next_ = 0;  // a connection's that is opened, once somebody slept
  absl::Status refuse_;           // what opening another connection ends with
  std::deque<std::shared_ptr<FakeConnection>> connections_;
  std::unique_ptr<RdmaExchange> exchange_;
};

TEST_F(RdmaExchangeTest, ABatchLandsAndItsTicketIsForgotten) {
  const auto ticket = Submit();
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kInFlight);
  connection(1).after_sleep = 1;
  EXPECT_TRUE(exchange_->Wait(*ticket).ok());
  EXPECT_TRUE(exchange_->WaitLayer(*ticket, 0).ok());
  EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kLanded);
  exchange_->Cancel(*ticket);
  EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kLanded);
  exchange_->Reap(*ticket);
  EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kReaped);
  EXPECT_EQ(exchange_->Wait(*ticket).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(events_, (Events{"open 1", "send 1:1"}));
}

TEST_F(RdmaExchangeTest, AWaitEndsAtItsDeadlineAndPollSeesItToo) {
  const auto waited = Submit(absl::Seconds(3)), polled = Submit(absl::Seconds(3));
  const MonotonicTime deadline = clock_.After(absl::Seconds(3));
  clock_.Advance(absl::Seconds(3) - absl::Nanoseconds(1));
  EXPECT_EQ(exchange_->Poll(*polled), TicketState::kInFlight);
  EXPECT_EQ(exchange_->Wait(*waited).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(clock_.Now(), deadline);
  EXPECT_EQ(exchange_->Poll(*polled), TicketState::kFailedLent);
  connection(1).to_answer = 2;
  exchange_->Reap(*waited);
  exchange_->Reap(*polled);
  EXPECT_EQ(clock_.Now(), deadline);
}

TEST_F(RdmaExchangeTest, ACancelledBatchStaysLentUntilItsOwnerHasAnswered) {
  const auto ticket = Submit();
  exchange_->Cancel(*ticket);
  EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kFailedLent);
  EXPECT_EQ(exchange_->Wait(*ticket).code(), absl::StatusCode::kCancelled);
  connection(1).sleeps = absl::Milliseconds(30);
  connection(1).after_sleep = 1;
  const MonotonicTime begin = clock_.Now();
  exchange_->Reap(*ticket);
  EXPECT_EQ(clock_.Now() - begin, absl::Milliseconds(30));
  EXPECT_FALSE(connection(1).closed);
}

TEST_F(RdmaExchangeTest, AReapThatIsNotAnsweredForClosesTheConnectionAndTheOthersGoOverAnother) {
  const auto late = Submit(), other = Submit();
  const MonotonicTime begin = clock_.Now();
  exchange_->Reap(*late);
  EXPECT_GE(clock_.Now() - begin, absl::Milliseconds(500));
  EXPECT_LE(clock_.Now() - begin, kReapTime);
  EXPECT_EQ(exchange_->Poll(*late), TicketState::kReaped);
  EXPECT_EQ(exchange_->Poll(*other), TicketState::kInFlight);
  answers_of_next_ = 1;
  EXPECT_TRUE(exchange_->Wait(*other).ok());
  EXPECT_EQ(events_, (Events{"open 1", "send 1:1", "send 2:1", "close 1", "open 2", "send 2:2"}));
}

TEST_F(RdmaExchangeTest, WhatIsSuspectIsClosedBeforeAnythingOfItIsAskedForElsewhere) {
  const auto first = Submit();
  exchange_->BreakForTest();
  EXPECT_EQ(exchange_->Poll(*first), TicketState::kInFlight);
  // Suspect, not closed: what it was asked for may still land, and nothing more is asked of it.
  const auto second = Submit();
  EXPECT_EQ(events_, (Events{"open 1", "send 1:1"}));
  EXPECT_FALSE(connection(1).closed);
  clock_.Advance(absl::Milliseconds(401));
  EXPECT_EQ(exchange_->Poll(*first), TicketState::kInFlight);
  EXPECT_TRUE(connection(1).closed);
  EXPECT_TRUE(connection(1).told_closed_first);
  answers_of_next_ = 2;
  EXPECT_TRUE(exchange_->Wait(*second).ok());
  EXPECT_TRUE(exchange_->Wait(*first).ok());
  EXPECT_EQ(events_, (Events{"open 1", "send 1:1", "close 1", "open 2", "send 1:2", "send 2:2"}));
}

TEST_F(RdmaExchangeTest, ABatchWhoseConnectionBreaksTwiceFails) {
  const auto ticket = Submit();
  for (int i = 1; i <= 2; ++i) {
    EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kInFlight);
    connection(i).ended = absl::UnavailableError(absl::StrCat("end ", i));
    static_cast<void>(exchange_->Poll(*ticket));
    clock_.Advance(absl::Milliseconds(300));
    if (i == 1) static_cast<void>(Submit());  // opens another
  }
  EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kFailedLent);
  const absl::Status status = exchange_->Wait(*ticket);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "end 2");
}

TEST_F(RdmaExchangeTest, WhereItIsNotToBeSentAgainABreakFailsItWhenNothingCanLand) {
  Make(/*resend=*/false);
  const auto ticket = Submit();
  connection(1).ended = absl::UnavailableError("over");
  EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kFailedLent);
  EXPECT_TRUE(connection(1).closed);
  exchange_->Reap(*ticket);  // at once: nothing is lent to a connection that is closed
  EXPECT_EQ(events_, (Events{"open 1", "send 1:1", "close 1"}));
}

TEST_F(RdmaExchangeTest, TheOwnersReasonIsToldWhereItSaysMoreThanThatItIsOver) {
  const auto refused = Submit();
  exchange_->BreakForTest();
  EXPECT_EQ(exchange_->Poll(*refused), TicketState::kInFlight);
  connection(1).ended = absl::PermissionDeniedError("no such key");
  // What the owner refuses once it refuses again: it is not asked again.
  EXPECT_EQ(exchange_->Wait(*refused).message(), "no such key");
  Make(/*resend=*/false);
  const auto bare = Submit();
  exchange_->BreakForTest();
  static_cast<void>(exchange_->Poll(*bare));
  connection(1).ended = absl::UnavailableError("over");
  EXPECT_EQ(exchange_->Wait(*bare).message(), "broken");
}

TEST_F(RdmaExchangeTest, WhereNoOtherConnectionIsToBeHadItFailsAndIsNotTriedTooOften) {
  const auto ticket = Submit();
  connection(1).ended = absl::UnavailableError("over");
  refuse_ = absl::UnavailableError("nobody listens");
  const absl::Status status = exchange_->Wait(*ticket);
  EXPECT_EQ(status.message(), "over; and no other can be opened: nobody listens");
  refuse_ = absl::OkStatus();
  EXPECT_EQ(Submit().status().message(), "nobody listens");  // it was just tried
  clock_.Advance(absl::Milliseconds(250));
  EXPECT_TRUE(Submit().ok());
  EXPECT_EQ(connections_.size(), 2u);
}

TEST_F(RdmaExchangeTest, ABatchThatIsOnlyPolledDoesNotWaitForEverForAnotherConnection) {
  const auto ticket = Submit();
  connection(1).ended = absl::UnavailableError("over");
  EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kInFlight);
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kInFlight);
  clock_.Advance(absl::Nanoseconds(1));
  EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kFailedLent);
}

TEST_F(RdmaExchangeTest, WhatCannotBeTakenOpensNoTicket) {
  const auto refused = exchange_->Submit(
      MonotonicTime::Infinite(), [](RdmaBatch&) { return absl::InvalidArgumentError("no"); });
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(events_, (Events{"open 1"}));
  for (uint32_t i = 0; i < kMaxOpenTickets; ++i) ASSERT_TRUE(Submit().ok()) << i;
  EXPECT_EQ(Submit().status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(RdmaExchangeTest, AfterTheDestructorNothingLands) {
  static_cast<void>(Submit());
  exchange_.reset();
  EXPECT_EQ(events_, (Events{"open 1", "send 1:1", "close 1"}));
}

TEST_F(RdmaExchangeTest, SeveralThreadsWaitAndOneOfThemSleepsForAll) {
  std::vector<Ticket> tickets;
  for (int i = 0; i < 4; ++i) tickets.push_back(*Submit());
  connection(1).sleeps = absl::Milliseconds(20);
  std::vector<std::thread> threads;
  std::atomic<int> landed{0};
  for (const Ticket ticket : tickets) {
    threads.emplace_back([&, ticket] {
      landed += exchange_->Wait(ticket).ok();
      exchange_->Reap(ticket);
    });
  }
  for (int i = 0; i < 4; ++i) ++connection(1).after_sleep;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(landed, 4);
}

}  // namespace
}  // namespace engram
