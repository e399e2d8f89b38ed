// What the router does when stores fail: errors, silence, broken connections, damage.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/cluster/router.h"
#include "memstore/cluster/testing/cluster_scheme.h"
#include "memstore/cluster/testing/router_fixture.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class RouterFailureTest : public testing_cluster::RouterFixture {};

TEST_F(RouterFailureTest, ABrokenConnectionIsSentOnceMoreForFree) {
  UseReplicas(1, 3);
  std::vector<BatchId> batches;
  for (int i = 0; i < 60; ++i) batches.push_back(Submit().value());
  const std::vector<RouterAction> sent = Take(ActionKind::kSend);
  const StoreId lost = sent[0].store;
  const auto count = std::count_if(sent.begin(), sent.end(),
                                   [&](const RouterAction& a) { return a.store == lost; });
  EXPECT_GT(count, 10);  // more than the budget has
  router_->ConnectionBroken(lost, now_, &actions_);
  EXPECT_EQ(TakeOne(ActionKind::kEject).store, lost);
  const std::vector<RouterAction> again = Take(ActionKind::kSend);
  ASSERT_EQ(again.size(), count);
  for (const RouterAction& a : again) EXPECT_NE(a.store, lost);
  EXPECT_EQ(router_->counters().free_resends, count);
  EXPECT_TRUE(actions_.empty());
  // The second time it is the budget's.
  router_->ConnectionBroken(again[0].store, now_, &actions_);
  EXPECT_GT(router_->counters().resends[static_cast<size_t>(ResendReason::kBroken)], 0);
}

TEST_F(RouterFailureTest, AnErrorGoesToAnotherReplicaWithinTheBudget) {
  UseReplicas(1, 3);
  int failed = 0, sent_again = 0;
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(Submit().ok());
    const RouterAction sent = TakeOne(ActionKind::kSend);
    Reply(sent, absl::InternalError("no"));
    std::vector<RouterAction> again = Take(ActionKind::kSend);
    if (again.empty()) {  // the others are ejected by now
      Pass(absl::Milliseconds(20));
      again = Take(ActionKind::kSend);
    }
    if (again.empty()) {
      const RouterAction end = TakeOne(ActionKind::kFailed);
      EXPECT_EQ(end.status.code(), absl::StatusCode::kInternal);
      EXPECT_THAT(std::string(end.status.message()), HasSubstr("retry budget"));
      ++failed;
    } else {
      Reply(again[0]);
      TakeOne(ActionKind::kLanded);
      ++sent_again;
    }
  }
  EXPECT_LE(sent_again, static_cast<int>(RetryBudget::kLeast + 5));
  EXPECT_GE(sent_again, static_cast<int>(RetryBudget::kLeast));
  EXPECT_EQ(failed + sent_again, 50);
}

TEST_F(RouterFailureTest, FailsByNameAfterItsAttempts) {
  UseReplicas(2, 2);
  ASSERT_TRUE(Submit(absl::Seconds(100)).ok());
  int sends = 0;
  for (int i = 0; i < 20; ++i) {
    for (const RouterAction& sent : Take(ActionKind::kSend)) {
      if (sent.part == 0) {
        Reply(sent);
        continue;
      }
      ++sends;
      Reply(sent, absl::UnavailableError("gone"));
    }
    Pass(absl::Milliseconds(50));
  }
  EXPECT_EQ(sends, static_cast<int>(Router::kMaxAttempts));
  const absl::Status status = TakeOne(ActionKind::kFailed).status;
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  for (const char* word :
       {"part 1", "layer 14", "columns 4..7", "rows [", "p1r0:7300", "p1r1:7300", "gone"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(word));
  }
  TakeOne(ActionKind::kReleased);
}

TEST_F(RouterFailureTest, WhatIsTheCallersFaultFailsAtOnce) {
  UseReplicas(2, 3);
  for (const absl::StatusCode code :
       {absl::StatusCode::kInvalidArgument, absl::StatusCode::kPermissionDenied,
        absl::StatusCode::kUnauthenticated, absl::StatusCode::kUnimplemented}) {
    ASSERT_TRUE(Submit().ok());
    const std::vector<RouterAction> sent = Take(ActionKind::kSend);
    Reply(sent[0], absl::Status(code, "no"));
    EXPECT_EQ(TakeOne(ActionKind::kFailed).status.code(), code);
    EXPECT_EQ(TakeOne(ActionKind::kCancel).attempt, sent[1].attempt);
    EXPECT_EQ(router_->counters().open_batches, 1);
    Reply(sent[1], absl::CancelledError());
    EXPECT_EQ(router_->counters().open_batches, 0);
    actions_.clear();
  }
  EXPECT_EQ(router_->counters().ejections, 0);
}

TEST_F(RouterFailureTest, ASilentStoreIsSuspectAndItsPartsMove) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit().ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  Pass(absl::Milliseconds(99));
  EXPECT_TRUE(actions_.empty());
  Pass(absl::Milliseconds(1));
  EXPECT_EQ(TakeOne(ActionKind::kEject).store, sent.store);
  EXPECT_EQ(TakeOne(ActionKind::kCancel).attempt, sent.attempt);
  const RouterAction again = TakeOne(ActionKind::kSend);
  EXPECT_NE(again.store, sent.store);
  EXPECT_FALSE(router_->MayLand(sent.attempt, now_, &actions_));
  EXPECT_TRUE(router_->MayLand(again.attempt, now_, &actions_));
  // The late answer shows that the store is there.
  TakeOne(ActionKind::kTryAgain);
  EXPECT_EQ(router_->StandingOf(sent.store), StoreStanding::kUp);
  Reply(again);
  TakeOne(ActionKind::kLanded);
  Reply(sent, absl::CancelledError());
  EXPECT_EQ(router_->counters().open_attempts, 0);
}

TEST_F(RouterFailureTest, AStoreThatSaysSomethingIsNotSilent) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit().ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  for (int i = 0; i < 5; ++i) {
    Pass(absl::Milliseconds(90));
    router_->Heard(sent.store, now_, &actions_);
  }
  EXPECT_TRUE(actions_.empty());
}

TEST_F(RouterFailureTest, TheOnlyReplicaIsWaitedFor) {
  UseReplicas(1, 1);
  ASSERT_TRUE(Submit().ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  for (int i = 0; i < 5; ++i) Pass(absl::Milliseconds(100));
  EXPECT_TRUE(Take(ActionKind::kCancel).empty());
  EXPECT_TRUE(Take(ActionKind::kSend).empty());
  Reply(sent);
  TakeOne(ActionKind::kLanded);
}

TEST_F(RouterFailureTest, WrittenPartsAreDrainedBeforeTheyAreAskedForElsewhere) {
  Make({.client_id = "client", .zone = "", .way = LandingWay::kWritten});
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit().ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  EXPECT_EQ(sent.way, LandingWay::kWritten);
  Pass(absl::Milliseconds(100));
  EXPECT_EQ(TakeOne(ActionKind::kDrain).attempt, sent.attempt);
  EXPECT_TRUE(Take(ActionKind::kSend).empty());
  Pass(absl::Milliseconds(100));
  EXPECT_TRUE(Take(ActionKind::kSend).empty());
  router_->Drained(sent.attempt, now_, &actions_);
  const RouterAction again = TakeOne(ActionKind::kSend);
  EXPECT_NE(again.store, sent.store);
  EXPECT_EQ(router_->CurrentAttempt(again.batch, 0), again.attempt);
  Reply(again);
  TakeOne(ActionKind::kLanded);
  EXPECT_EQ(router_->counters().resends[static_cast<size_t>(ResendReason::kSilent)], 1);
}

TEST_F(RouterFailureTest, WhereADeviceMayNotWriteRowsAreCopied) {
  UseReplicas(1, 1);
  ASSERT_TRUE(Submit().ok());
  const RouterAction first = TakeOne(ActionKind::kSend);
  Reply(first);
  Take(ActionKind::kLanded);
  router_->SetWay(first.store, LandingWay::kWritten, /*anywhere=*/false);
  ASSERT_TRUE(Submit().ok());
  const RouterAction copied = TakeOne(ActionKind::kSend);
  EXPECT_EQ(copied.way, LandingWay::kCopied);
  Reply(copied);
  Take(ActionKind::kLanded);
  router_->SetWay(first.store, LandingWay::kWritten, /*anywhere=*/true);
  ASSERT_TRUE(Submit().ok());
  EXPECT_EQ(TakeOne(ActionKind::kSend).way, LandingWay::kWritten);
}

TEST_F(RouterFailureTest, AStoreIsNoneTheWorseForItsBrokenWay) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit().ok());
  const RouterAction copied = TakeOne(ActionKind::kSend);
  router_->SetWay(copied.store, LandingWay::kWritten);
  std::vector<RouterAction> written;
  while (written.empty()) {
    ASSERT_TRUE(Submit().ok());
    const RouterAction sent = TakeOne(ActionKind::kSend);
    if (sent.store == copied.store) written.push_back(sent);
  }
  router_->SetWay(copied.store, LandingWay::kCopied);
  router_->WayBroken(copied.store, &actions_);
  EXPECT_EQ(TakeOne(ActionKind::kDrain).attempt, written[0].attempt);
  EXPECT_TRUE(actions_.empty());  // neither is it ejected, nor is what is copied asked for anew
  router_->Drained(written[0].attempt, now_, &actions_);
  EXPECT_NE(TakeOne(ActionKind::kSend).store, copied.store);
  EXPECT_EQ(router_->counters().free_resends, 1);
}

TEST_F(RouterFailureTest, MemoryIsGivenBackOnceNothingMayWriteToIt) {
  Make({.client_id = "client", .zone = "", .way = LandingWay::kWritten});
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit(absl::Milliseconds(50)).ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  Pass(absl::Milliseconds(50));
  TakeOne(ActionKind::kFailed);
  EXPECT_EQ(TakeOne(ActionKind::kCancel).attempt, sent.attempt);
  EXPECT_TRUE(Take(ActionKind::kReleased).empty());
  Pass(Router::kAnswerTime - absl::Milliseconds(1));
  EXPECT_TRUE(Take(ActionKind::kDrain).empty());
  Pass(absl::Milliseconds(1));
  EXPECT_EQ(TakeOne(ActionKind::kDrain).attempt, sent.attempt);
  EXPECT_TRUE(Take(ActionKind::kReleased).empty());
  router_->Drained(sent.attempt, now_, &actions_);
  TakeOne(ActionKind::kReleased);
  EXPECT_EQ(router_->counters().open_batches, 0);
}

TEST_F(RouterFailureTest, HedgesASlowCopiedPartAndTakesTheFirst) {
  UseReplicas(1, 2);
  Learn();
  const BatchId batch = Submit().value();
  const RouterAction sent = TakeOne(ActionKind::kSend);
  const MonotonicTime due = router_->NextTick(now_);
  EXPECT_GT(due, now_ + absl::Milliseconds(2));
  EXPECT_LT(due, now_ + absl::Milliseconds(3));
  Pass(due - now_);
  const RouterAction hedge = TakeOne(ActionKind::kSend);
  EXPECT_NE(hedge.store, sent.store);
  EXPECT_EQ(router_->CurrentAttempt(batch, 0), kNoAttempt);
  EXPECT_TRUE(router_->MayLand(hedge.attempt, now_, &actions_));
  EXPECT_EQ(TakeOne(ActionKind::kCancel).attempt, sent.attempt);
  EXPECT_FALSE(router_->MayLand(sent.attempt, now_, &actions_));
  Reply(sent);  // too late
  EXPECT_TRUE(actions_.empty());
  Reply(hedge);
  TakeOne(ActionKind::kLanded);
  EXPECT_EQ(router_->counters().hedges_won, 1);
}

// It was hedged away from each time: by its open parts alone it would be the idle one.
TEST_F(RouterFailureTest, AStoreThatStoppedIsNotTheIdleOneWhileHedgesWin) {
  UseReplicas(1, 2);
  Learn();
  StoreId stopped = kNoStore;
  int asked = 0;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Submit().ok());
    RouterAction sent = TakeOne(ActionKind::kSend);
    if (stopped == kNoStore) stopped = sent.store;
    if (sent.store == stopped) {
      ++asked;
      Pass(absl::Milliseconds(3));
      sent = TakeOne(ActionKind::kSend);
      EXPECT_NE(sent.store, stopped);
    }
    Reply(sent);
    for (const RouterAction& lost : Take(ActionKind::kCancel)) {
      Reply(lost, absl::CancelledError());
    }
    TakeOne(ActionKind::kLanded);
    Take(ActionKind::kLayer);
  }
  EXPECT_EQ(asked, 1);
  // Once it says anything it is asked as before.
  router_->Heard(stopped, now_, &actions_);
  int asked_again = 0;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Submit().ok());
    const RouterAction sent = TakeOne(ActionKind::kSend);
    asked_again += sent.store == stopped ? 1 : 0;
    Reply(sent);
  }
  EXPECT_GT(asked_again, 3);
}

TEST_F(RouterFailureTest, WithoutHedgesALatePartIsWaitedFor) {
  Make({.client_id = "client", .zone = "", .hedges = false});
  UseReplicas(1, 3);
  Learn();
  ASSERT_TRUE(Submit().ok());
  TakeOne(ActionKind::kSend);
  EXPECT_GE(router_->NextTick(now_), now_ + Router::kSilence);
  Pass(Router::kSilence - absl::Milliseconds(1));
  EXPECT_TRUE(Take(ActionKind::kSend).empty());
  EXPECT_EQ(router_->counters().hedges, 0);
}

TEST_F(RouterFailureTest, WhatHasBegunIsNotHedged) {
  UseReplicas(1, 2);
  Learn();
  ASSERT_TRUE(Submit().ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  EXPECT_TRUE(router_->MayLand(sent.attempt, now_, &actions_));
  Pass(absl::Milliseconds(50));
  EXPECT_TRUE(actions_.empty());
}

TEST_F(RouterFailureTest, WrittenPartsAreNeverHedged) {
  Make({.client_id = "client", .zone = "", .way = LandingWay::kWritten});
  UseReplicas(1, 2);
  Learn();
  ASSERT_TRUE(Submit().ok());
  Take(ActionKind::kSend);
  Pass(absl::Milliseconds(50));
  EXPECT_TRUE(actions_.empty());
}

TEST_F(RouterFailureTest, DamageFencesAndDropsWhatCameFromThere) {
  UseReplicas(2, 2);
  const BatchId batch = Submit().value();
  const std::vector<RouterAction> sent = Take(ActionKind::kSend);
  router_->LayerLanded(sent[0].attempt, 0, now_, &actions_);
  EXPECT_TRUE(router_->HasLanded(batch, 0, 0));
  Reply(sent[0], absl::DataLossError("checksum"));
  EXPECT_EQ(TakeOne(ActionKind::kFence).store, sent[0].store);
  EXPECT_FALSE(router_->HasLanded(batch, 0, 0));
  EXPECT_EQ(router_->counters().layers_dropped, 1);
  const RouterAction again = TakeOne(ActionKind::kSend);
  EXPECT_NE(again.store, sent[0].store);
  Reply(again);
  Reply(sent[1]);
  TakeOne(ActionKind::kLanded);
  for (int i = 0; i < 20; ++i) {
    Pass(absl::Seconds(10));
    ASSERT_TRUE(Submit().ok());
    for (const RouterAction& next : Take(ActionKind::kSend)) {
      EXPECT_NE(next.store, sent[0].store);
      Reply(next);
    }
  }
}

TEST_F(RouterFailureTest, RowsThatWerePublishedAnewAreAskedForAgain) {
  std::vector<StoreState> stores = testing_cluster::Partitioned(scheme_, 1, 1);
  Use(stores);
  ASSERT_TRUE(Submit().ok());
  Reply(TakeOne(ActionKind::kSend), absl::DataLossError("checksum"));
  Use(stores);  // it says the same
  Pass(absl::Milliseconds(80));
  EXPECT_EQ(TakeOne(ActionKind::kFailed).status.code(), absl::StatusCode::kDataLoss);
  ++stores[0].sets[0].generation;
  Use(stores);
  ASSERT_TRUE(Submit().ok());
  Reply(TakeOne(ActionKind::kSend));
  TakeOne(ActionKind::kLanded);
}

TEST_F(RouterFailureTest, DamageAfterTheCallerWasToldFailsTheBatch) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit().ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  router_->LayerLanded(sent.attempt, 0, now_, &actions_);
  TakeOne(ActionKind::kLayer);
  Reply(sent, absl::DataLossError("checksum"));
  EXPECT_EQ(TakeOne(ActionKind::kFailed).status.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(Take(ActionKind::kSend).empty());
}

TEST_F(RouterFailureTest, WithEveryReplicaFencedItIsDataLoss) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit().ok());
  Reply(TakeOne(ActionKind::kSend), absl::DataLossError("checksum"));
  Reply(TakeOne(ActionKind::kSend), absl::DataLossError("checksum"));
  Pass(absl::Milliseconds(80));
  EXPECT_EQ(TakeOne(ActionKind::kFailed).status.code(), absl::StatusCode::kDataLoss);
}

// What another batch has landed from there is dropped, too, and asked for once more.
TEST_F(RouterFailureTest, DamageReachesOtherBatches) {
  UseReplicas(2, 1);
  ASSERT_TRUE(Submit().ok());
  const std::vector<RouterAction> first = Take(ActionKind::kSend);
  Reply(first[0]);
  std::vector<StoreState> more = testing_cluster::Partitioned(scheme_, 2, 2);
  Use(more);
  ASSERT_TRUE(Submit().ok());
  std::vector<RouterAction> second = Take(ActionKind::kSend);
  if (second[0].store != first[0].store) return;  // by chance the other replica was asked
  Reply(second[0], absl::DataLossError("checksum"));
  std::vector<RouterAction> again = Take(ActionKind::kSend);
  ASSERT_EQ(again.size(), 2);
  EXPECT_NE(again[0].batch, again[1].batch);
  for (const RouterAction& sent : again) {
    EXPECT_EQ(sent.part, 0);
    EXPECT_NE(sent.store, first[0].store);
  }
}

TEST_F(RouterFailureTest, ABusyStoreIsLeftForAsLongAsItSays) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit().ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  Reply(sent, absl::ResourceExhaustedError("full"), absl::Milliseconds(300));
  const RouterAction again = TakeOne(ActionKind::kSend);
  EXPECT_NE(again.store, sent.store);
  Reply(again, absl::ResourceExhaustedError("full"), absl::Milliseconds(60));
  EXPECT_TRUE(actions_.empty());
  Pass(absl::Milliseconds(59));
  EXPECT_TRUE(actions_.empty());
  Pass(absl::Milliseconds(1));
  EXPECT_EQ(TakeOne(ActionKind::kSend).store, again.store);
  EXPECT_EQ(router_->counters().ejections, 0);
}

TEST_F(RouterFailureTest, AnEjectedStoreIsTriedWithOnePart) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit().ok());
  const StoreId lost = TakeOne(ActionKind::kSend).store;
  router_->ConnectionBroken(lost, now_, &actions_);
  actions_.clear();
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Submit(absl::Seconds(60)).ok());
    EXPECT_NE(TakeOne(ActionKind::kSend).store, lost);
  }
  now_ += absl::Milliseconds(601);
  for (StoreId id = 1; id <= 2; ++id) router_->Heard(id, now_, &actions_);
  Pass(absl::ZeroDuration());
  EXPECT_EQ(TakeOne(ActionKind::kTryAgain).store, lost);
  std::vector<RouterAction> there;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Submit(absl::Seconds(60)).ok());
    const RouterAction sent = TakeOne(ActionKind::kSend);
    if (sent.store == lost) there.push_back(sent);
  }
  ASSERT_EQ(there.size(), 1);
  Reply(there[0]);
  EXPECT_EQ(router_->StandingOf(lost), StoreStanding::kUp);
}

TEST_F(RouterFailureTest, WhatFailedAfterItsLastRowHasLanded) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit().ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  router_->LayerLanded(sent.attempt, 0, now_, &actions_);
  router_->LayerLanded(sent.attempt, 1, now_, &actions_);
  router_->ConnectionBroken(sent.store, now_, &actions_);
  TakeOne(ActionKind::kLanded);
  EXPECT_TRUE(Take(ActionKind::kSend).empty());
}

// Found by a simulated cluster (tests/sim): the part stayed with the silent store to its deadline.
TEST_F(RouterFailureTest, ASilentStoresPartGoesBackToOneThatSpeaksAgain) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit(absl::Seconds(5)).ok());
  const StoreId first = TakeOne(ActionKind::kSend).store;
  Pass(Router::kSilence);
  const StoreId second = TakeOne(ActionKind::kSend).store;
  ASSERT_NE(second, first);
  router_->Heard(first, now_, &actions_);
  Pass(2 * Router::kSilence);
  EXPECT_EQ(TakeOne(ActionKind::kSend).store, first);
}

// On a machine that starved attempts went to live stores, and the last one to one that had stopped.
TEST_F(RouterFailureTest, MovesForSilenceTakeNoAttemptsAndWaitLongerEachTime) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit(absl::Seconds(60)).ok());
  RouterAction sent = TakeOne(ActionKind::kSend);
  absl::Duration patience = Router::kSilence;
  StoreId before = kNoStore;
  for (uint32_t move = 0; move < 2 * Router::kMaxAttempts; ++move) {
    Pass(patience - absl::Milliseconds(1));
    EXPECT_TRUE(Take(ActionKind::kSend).empty()) << move;
    if (move > 0) router_->Heard(before, now_, &actions_);
    Pass(absl::Milliseconds(1));
    const RouterAction next = TakeOne(ActionKind::kSend);
    EXPECT_NE(next.store, sent.store) << move;
    before = std::exchange(sent, next).store;
    patience = std::min(2 * patience, Router::kSilence * (1 << Router::kMaxSilenceDoublings));
  }
  // All of its attempts are left for stores that say what is wrong.
  for (uint32_t error = 1; error < Router::kMaxAttempts; ++error) {
    Reply(sent, absl::InternalError("it cannot"));
    Pass(absl::Seconds(1));
    sent = TakeOne(ActionKind::kSend);
  }
  Reply(sent, absl::InternalError("it cannot"));
  TakeOne(ActionKind::kFailed);
}

}  // namespace
}  // namespace engram
