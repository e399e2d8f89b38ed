#include "client/transport/rdma/rdma_exchange.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/transport/failure_mark.h"
#include "client/transport/rdma/testing/fake_exchange.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/count_allocations.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using testing::Events;
using testing::Recorder;

using RdmaExchangeTest = testing::ExchangeFixture;

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

TEST_F(RdmaExchangeTest, TryReapTakesBackWhatWasAnsweredAndWaitsForNothing) {
  const auto ticket = Submit();
  const MonotonicTime begin = clock_.Now();
  EXPECT_FALSE(exchange_->TryReap(*ticket));  // it is in flight
  EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kInFlight);
  exchange_->Cancel(*ticket);
  EXPECT_FALSE(exchange_->TryReap(*ticket));  // the owner may write still
  EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kFailedLent);
  connection(1).to_answer = 1;
  EXPECT_TRUE(exchange_->TryReap(*ticket));
  EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kReaped);
  EXPECT_TRUE(exchange_->TryReap(*ticket));
  EXPECT_EQ(clock_.Now(), begin);
  EXPECT_EQ(events_, (Events{"open 1", "send 1:1"}));
}

TEST_F(RdmaExchangeTest, WhoAsksOnceIsToldOfABreakAndOpensNoOther) {
  Make(/*resend=*/true, /*asks_once=*/true);
  const auto cut = Submit(), other = Submit();
  exchange_->Cancel(*cut);
  const MonotonicTime begin = clock_.Now();
  exchange_->Reap(*cut);  // waits for no answer
  EXPECT_EQ(clock_.Now(), begin);
  EXPECT_EQ(events_, (Events{"open 1", "send 1:1", "send 2:1", "close 1"}));
  EXPECT_TRUE(connection(1).told_closed_first);
  for (const absl::Status& status : {exchange_->Wait(*other), Submit().status()}) {
    EXPECT_TRUE(absl::IsUnavailable(status) && IsBroken(status)) << status;
  }
  exchange_->Reap(*other);
  EXPECT_EQ(clock_.Now(), begin);
  EXPECT_EQ(events_.back(), "close 1");
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

TEST_F(RdmaExchangeTest, ATryThatOneBatchsDeadlineEndsFailsNoOtherAndIsMadeAgainAtOnce) {
  const auto brief = Submit(absl::Milliseconds(20)), other = Submit(absl::Seconds(10));
  connection(1).ended = absl::UnavailableError("over");
  opening_takes_ = absl::Seconds(1);
  const MonotonicTime begin = clock_.Now();
  EXPECT_EQ(exchange_->Wait(*brief).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(clock_.Now() - begin, absl::Milliseconds(20));
  EXPECT_EQ(Submit(absl::Milliseconds(30)).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(clock_.Now() - begin, absl::Milliseconds(50));
  EXPECT_EQ(exchange_->Poll(*other), TicketState::kInFlight);
  answers_of_next_ = 2;
  const auto next = Submit(absl::Seconds(10));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_TRUE(exchange_->Wait(*other).ok());
  EXPECT_TRUE(exchange_->Wait(*next).ok());
  EXPECT_EQ(events_, (Events{"open 1", "send 1:1", "send 2:1", "close 1", "open 2", "send 2:2",
                             "send 3:2"}));
}

TEST_F(RdmaExchangeTest, ATryThatHadAllItsTimeFailsWhateverWaitsForIt) {
  const auto ticket = Submit(absl::Seconds(5)), other = Submit();
  connection(1).ended = absl::UnavailableError("over");
  opening_takes_ = absl::Hours(1);
  const MonotonicTime begin = clock_.Now();
  EXPECT_EQ(exchange_->Wait(*ticket).message(),
            "over; and no other can be opened: no answer in time");
  EXPECT_EQ(clock_.Now() - begin, absl::Seconds(5));
  EXPECT_EQ(exchange_->Poll(*other), TicketState::kFailedLent);
  EXPECT_EQ(Submit().status().message(), "no answer in time");
}

TEST_F(RdmaExchangeTest, WhatTheOwnerRefusesCountsHoweverLateItIs) {
  const auto brief = Submit(absl::Milliseconds(20)), other = Submit();
  connection(1).ended = absl::UnavailableError("over");
  while_opening_ = [this] { clock_.Advance(absl::Milliseconds(21)); };
  refuse_ = absl::PermissionDeniedError("not this set");
  EXPECT_EQ(exchange_->Wait(*brief).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(exchange_->Poll(*other), TicketState::kFailedLent);
}

TEST_F(RdmaExchangeTest, ABatchThatIsOnlyPolledWaitsOnFromATryThatWasCutShort) {
  const auto brief = Submit(absl::Seconds(2)), polled = Submit();
  connection(1).ended = absl::UnavailableError("over");
  opening_takes_ = absl::Seconds(3);
  EXPECT_EQ(exchange_->Wait(*brief).code(), absl::StatusCode::kDeadlineExceeded);
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(exchange_->Poll(*polled), TicketState::kInFlight);
  clock_.Advance(absl::Nanoseconds(1));
  EXPECT_EQ(exchange_->Poll(*polled), TicketState::kFailedLent);
}

TEST_F(RdmaExchangeTest, WhatIsSubmittedWhileAnotherConnectionIsOpenedGoesOverIt) {
  const auto ticket = Submit();
  connection(1).ended = absl::UnavailableError("over");
  absl::StatusOr<Ticket> meanwhile;
  while_opening_ = [&] { meanwhile = Submit(); };
  answers_of_next_ = 1;
  EXPECT_TRUE(exchange_->Wait(*ticket).ok());
  ASSERT_TRUE(meanwhile.ok()) << meanwhile.status();
  connection(2).to_answer = 1;
  EXPECT_TRUE(exchange_->Wait(*meanwhile).ok());
  EXPECT_EQ(events_, (Events{"open 1", "send 1:1", "close 1", "open 2", "send 1:2", "send 2:2"}));
}

TEST_F(RdmaExchangeTest, WhatIsSubmittedWhileNoOtherConnectionCanBeOpenedFailsWithTheRest) {
  const auto ticket = Submit();
  connection(1).ended = absl::UnavailableError("over");
  absl::StatusOr<Ticket> meanwhile;
  while_opening_ = [&] { meanwhile = Submit(); };
  refuse_ = absl::UnavailableError("nobody listens");
  EXPECT_EQ(exchange_->Wait(*ticket).code(), absl::StatusCode::kUnavailable);
  ASSERT_TRUE(meanwhile.ok()) << meanwhile.status();
  EXPECT_EQ(exchange_->Wait(*meanwhile).code(), absl::StatusCode::kUnavailable);
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
  const LayerRequest nowhere{.layer = 0, .row_ids = {}, .landing = {}};
  const auto refused = exchange_->Submit({.layers = {&nowhere, 1}});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(events_, (Events{"open 1"}));
  for (uint32_t i = 0; i < kMaxOpenTickets; ++i) ASSERT_TRUE(Submit().ok()) << i;
  EXPECT_EQ(Submit().status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(RdmaExchangeTest, WhatWasLateWhenItsConnectionBrokeIsNotAskedForAgain) {
  const auto late = Submit(absl::Seconds(1)), other = Submit();
  clock_.Advance(absl::Seconds(1));
  connection(1).ended = absl::UnavailableError("over");
  EXPECT_EQ(exchange_->Poll(*other), TicketState::kInFlight);
  EXPECT_TRUE(Submit().ok());
  EXPECT_EQ(events_, (Events{"open 1", "send 1:1", "send 2:1", "close 1", "open 2", "send 2:2",
                             "send 3:2"}));
  EXPECT_EQ(exchange_->Wait(*late).message(), "over");
}

TEST_F(RdmaExchangeTest, WhatWasReapedBeforeItWasSentIsForgotten) {
  exchange_->BreakForTest();
  const auto reaped = Submit(), other = Submit();
  exchange_->Reap(*reaped);
  const auto next = Submit();  // in the batch that was used before
  clock_.Advance(absl::Milliseconds(401));
  EXPECT_EQ(exchange_->Poll(*other), TicketState::kInFlight);
  answers_of_next_ = 2;
  EXPECT_TRUE(exchange_->Wait(*next).ok());
  EXPECT_EQ(events_, (Events{"open 1", "close 1", "open 2", "send 2:2", "send 3:2"}));
}

TEST_F(RdmaExchangeTest, LayersThatHadLandedAreNotAskedForAgain) {
  Recorder sink;
  const auto ticket = Submit(absl::Hours(2), &sink);
  connection(1).to_land = 1;
  EXPECT_EQ(exchange_->Poll(*ticket), TicketState::kInFlight);
  EXPECT_TRUE(exchange_->WaitLayer(*ticket, 1).ok());
  connection(1).ended = absl::UnavailableError("over");
  answers_of_next_ = 1;
  EXPECT_TRUE(exchange_->Wait(*ticket).ok());
  EXPECT_THAT(sink.told(), ElementsAre("1", "0", "OK"));  // layer 1 landed once
}

TEST_F(RdmaExchangeTest, WhatTheNextOwnerDoesNotTakeFailsThere) {
  const auto ticket = Submit();
  connection(1).ended = absl::UnavailableError("over");
  refusal_of_next_ = absl::InvalidArgumentError("held elsewhere");
  EXPECT_EQ(exchange_->Wait(*ticket).message(), "held elsewhere");
  EXPECT_EQ(Submit().status().message(), "held elsewhere");
  EXPECT_EQ(events_, (Events{"open 1", "send 1:1", "close 1", "open 2"}));
}

TEST_F(RdmaExchangeTest, AWarmLookupAllocatesNothing) {
  connection(1).quiet = true;
  const auto look_up = [&] {
    const Ticket ticket = Submit().value();
    connection(1).to_answer = 1;
    EXPECT_TRUE(exchange_->Wait(ticket).ok());
    exchange_->Reap(ticket);
  };
  for (int i = 0; i < 3; ++i) look_up();
  const uint64_t before = testing::Allocations();
  for (int i = 0; i < 10; ++i) look_up();
  EXPECT_EQ(testing::Allocations(), before);
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
