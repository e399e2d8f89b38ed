#include "memstore/cluster/router.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/count_allocations.h"
#include "memstore/cluster/testing/cluster_scheme.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kLayers = 2;

// One router, its time, and what it asked for since the test looked last.
class RouterTest : public ::testing::Test {
 protected:
  RouterTest() { Make({.client_id = "client", .zone = ""}); }

  void Make(RouterOptions options) {
    router_ = std::make_unique<Router>(std::move(options), &random_);
  }
  void Use(const std::vector<StoreState>& heard) {
    auto map = ClusterMap::Create(testing_cluster::kSetId, scheme_, heard);
    ASSERT_TRUE(map.ok()) << map.status();
    router_->SetMap(*map, now_, &actions_);
  }
  void UseReplicas(uint32_t partitions, uint32_t replicas) {
    Use(testing_cluster::Partitioned(scheme_, partitions, replicas));
  }

  // A batch of both layers and every piece.
  absl::StatusOr<BatchId> Submit(absl::Duration time = absl::Seconds(1)) {
    for (uint32_t i = 0; i < kLayers; ++i) layers_[i].request = i;
    parts_.clear();
    for (uint32_t piece = 0; piece < router_->map()->pieces().size(); ++piece) {
      parts_.push_back({.piece = piece, .rows = 10, .bytes = 1000, .layers = layers_});
    }
    return router_->Submit(++tag_, router_->map(), parts_, kLayers, now_ + time, now_, &actions_);
  }

  std::vector<RouterAction> Take(ActionKind kind) {
    std::vector<RouterAction> taken;
    for (const RouterAction& action : actions_) {
      if (action.kind == kind) taken.push_back(action);
    }
    std::erase_if(actions_, [&](const RouterAction& action) { return action.kind == kind; });
    return taken;
  }
  RouterAction TakeOne(ActionKind kind) {
    const std::vector<RouterAction> taken = Take(kind);
    EXPECT_EQ(taken.size(), 1) << "of kind " << static_cast<int>(kind);
    return taken.empty() ? RouterAction() : taken[0];
  }
  void Reply(const RouterAction& sent, const absl::Status& status = absl::OkStatus(),
             absl::Duration retry_after = absl::ZeroDuration()) {
    router_->Reply(sent.attempt, status, retry_after, now_, &actions_);
  }
  void Pass(absl::Duration span) {
    now_ += span;
    router_->Tick(now_, &actions_);
  }
  // Batches whose parts take 2 ms each, so that the router knows what is usual.
  void Learn(int batches = 200) {
    for (int i = 0; i < batches; ++i) {
      ASSERT_TRUE(Submit().ok());
      now_ += absl::Milliseconds(2);
      for (const RouterAction& sent : Take(ActionKind::kSend)) Reply(sent);
    }
    actions_.clear();
  }

  const AddressScheme scheme_ = testing_cluster::Scheme();
  std::mt19937_64 random_{5};
  std::unique_ptr<Router> router_;
  MonotonicTime now_ = MonotonicTime() + absl::Seconds(1000);
  std::vector<RouterAction> actions_;
  PartLayer layers_[kLayers];
  std::vector<SplitPart> parts_;
  uint64_t tag_ = 0;
};

TEST_F(RouterTest, SendsEachPartOnceAndLandsTheBatch) {
  UseReplicas(4, 2);
  const BatchId batch = Submit().value();
  const std::vector<RouterAction> sent = Take(ActionKind::kSend);
  ASSERT_EQ(sent.size(), 4);
  EXPECT_EQ(sent[0].deadline, now_ + absl::Seconds(1));
  for (int i = 0; i < 3; ++i) Reply(sent[i]);
  EXPECT_TRUE(actions_.empty());
  router_->LayerLanded(sent[3].attempt, 0, now_, &actions_);
  EXPECT_EQ(TakeOne(ActionKind::kLayer).layer, 0);
  EXPECT_TRUE(router_->HasLanded(batch, 3, 0));
  EXPECT_FALSE(router_->HasLanded(batch, 3, 1));
  Reply(sent[3]);
  EXPECT_EQ(TakeOne(ActionKind::kLayer).layer, 1);
  EXPECT_EQ(TakeOne(ActionKind::kLanded).tag, 1);
  EXPECT_TRUE(actions_.empty());
  EXPECT_EQ(router_->counters().open_attempts, 0);
  EXPECT_EQ(router_->counters().open_batches, 0);
  Reply(sent[3]);  // once more: nothing
  EXPECT_TRUE(actions_.empty());
}

TEST_F(RouterTest, ABatchOfNoPartsHasLanded) {
  UseReplicas(1, 1);
  ASSERT_TRUE(
      router_->Submit(7, router_->map(), {}, 1, now_ + absl::Seconds(1), now_, &actions_).ok());
  EXPECT_EQ(TakeOne(ActionKind::kLanded).tag, 7);
  EXPECT_EQ(router_->counters().open_batches, 0);
}

TEST_F(RouterTest, RefusesWhatItCannotBegin) {
  UseReplicas(1, 1);
  const ClusterMap* const old = router_->map();
  EXPECT_EQ(router_->Submit(1, old, {}, 1, now_, now_, &actions_).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  const std::shared_ptr<const ClusterMap> other =
      ClusterMap::Create(testing_cluster::kSetId, scheme_, {}).value();
  EXPECT_EQ(router_->Submit(1, other.get(), {}, 1, now_ + absl::Seconds(1), now_, &actions_)
                .status()
                .code(),
            absl::StatusCode::kAborted);
  for (uint32_t i = 0; i < Router::kMaxOpenBatches; ++i) ASSERT_TRUE(Submit().ok());
  EXPECT_EQ(Submit().status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(RouterTest, ABrokenConnectionIsSentOnceMoreForFree) {
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

TEST_F(RouterTest, AnErrorGoesToAnotherReplicaWithinTheBudget) {
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

TEST_F(RouterTest, FailsByNameAfterItsAttempts) {
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

TEST_F(RouterTest, WhatIsTheCallersFaultFailsAtOnce) {
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

TEST_F(RouterTest, TheDeadlineEndsTheBatchAndNamesWhatIsMissing) {
  UseReplicas(2, 1);
  ASSERT_TRUE(Submit(absl::Milliseconds(50)).ok());
  const std::vector<RouterAction> sent = Take(ActionKind::kSend);
  Reply(sent[0]);
  EXPECT_EQ(router_->NextTick(now_), now_ + absl::Milliseconds(50));
  Pass(absl::Milliseconds(49));
  EXPECT_TRUE(Take(ActionKind::kFailed).empty());
  Pass(absl::Milliseconds(1));
  const absl::Status status = TakeOne(ActionKind::kFailed).status;
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("p1r0:7300"));
  EXPECT_THAT(std::string(status.message()), ::testing::Not(HasSubstr("p0r0:7300")));
  EXPECT_EQ(TakeOne(ActionKind::kCancel).attempt, sent[1].attempt);
  EXPECT_FALSE(router_->MayLand(sent[1].attempt, now_, &actions_));
}

TEST_F(RouterTest, ASilentStoreIsSuspectAndItsPartsMove) {
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

TEST_F(RouterTest, AStoreThatSaysSomethingIsNotSilent) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit().ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  for (int i = 0; i < 5; ++i) {
    Pass(absl::Milliseconds(90));
    router_->Heard(sent.store, now_, &actions_);
  }
  EXPECT_TRUE(actions_.empty());
}

TEST_F(RouterTest, TheOnlyReplicaIsWaitedFor) {
  UseReplicas(1, 1);
  ASSERT_TRUE(Submit().ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  for (int i = 0; i < 5; ++i) Pass(absl::Milliseconds(100));
  EXPECT_TRUE(Take(ActionKind::kCancel).empty());
  EXPECT_TRUE(Take(ActionKind::kSend).empty());
  Reply(sent);
  TakeOne(ActionKind::kLanded);
}

TEST_F(RouterTest, WrittenPartsAreDrainedBeforeTheyAreAskedForElsewhere) {
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

TEST_F(RouterTest, MemoryIsGivenBackOnceNothingMayWriteToIt) {
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

TEST_F(RouterTest, HedgesASlowCopiedPartAndTakesTheFirst) {
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

TEST_F(RouterTest, WhatHasBegunIsNotHedged) {
  UseReplicas(1, 2);
  Learn();
  ASSERT_TRUE(Submit().ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  EXPECT_TRUE(router_->MayLand(sent.attempt, now_, &actions_));
  Pass(absl::Milliseconds(50));
  EXPECT_TRUE(actions_.empty());
}

TEST_F(RouterTest, WrittenPartsAreNeverHedged) {
  Make({.client_id = "client", .zone = "", .way = LandingWay::kWritten});
  UseReplicas(1, 2);
  Learn();
  ASSERT_TRUE(Submit().ok());
  Take(ActionKind::kSend);
  Pass(absl::Milliseconds(50));
  EXPECT_TRUE(actions_.empty());
}

TEST_F(RouterTest, DamageFencesAndDropsWhatCameFromThere) {
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

TEST_F(RouterTest, DamageAfterTheCallerWasToldFailsTheBatch) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit().ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  router_->LayerLanded(sent.attempt, 0, now_, &actions_);
  TakeOne(ActionKind::kLayer);
  Reply(sent, absl::DataLossError("checksum"));
  EXPECT_EQ(TakeOne(ActionKind::kFailed).status.code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(Take(ActionKind::kSend).empty());
}

TEST_F(RouterTest, WithEveryReplicaFencedItIsDataLoss) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit().ok());
  Reply(TakeOne(ActionKind::kSend), absl::DataLossError("checksum"));
  Reply(TakeOne(ActionKind::kSend), absl::DataLossError("checksum"));
  Pass(absl::Milliseconds(80));
  EXPECT_EQ(TakeOne(ActionKind::kFailed).status.code(), absl::StatusCode::kDataLoss);
}

// What another batch has landed from there is dropped, too, and asked for once more.
TEST_F(RouterTest, DamageReachesOtherBatches) {
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

TEST_F(RouterTest, NotHeldAsksForAMapAndEndsAfterTwo) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit(absl::Seconds(60)).ok());
  int maps = 0;
  for (int i = 0; i < 40 && Take(ActionKind::kFailed).empty(); ++i) {
    for (const RouterAction& sent : Take(ActionKind::kSend)) {
      Reply(sent, absl::FailedPreconditionError("does not hold"));
    }
    if (!Take(ActionKind::kAskForMap).empty()) {
      ++maps;
      UseReplicas(1, 2);  // the same again
      if (router_->counters().failed > 0) break;
    }
    Pass(absl::Milliseconds(500));
  }
  EXPECT_EQ(router_->counters().failed, 1);
  EXPECT_LE(maps, 3);
  EXPECT_LE(router_->counters().resends[static_cast<size_t>(ResendReason::kNotHeld)], 3);
}

TEST_F(RouterTest, WaitsForAReplicaUntilAMapHasOne) {
  std::vector<StoreState> heard = testing_cluster::Partitioned(scheme_, 2, 1);
  const StoreState late = heard[1];
  heard.pop_back();
  Use(heard);
  ASSERT_TRUE(Submit().ok());
  EXPECT_EQ(Take(ActionKind::kSend).size(), 1);
  TakeOne(ActionKind::kAskForMap);
  heard.push_back(late);
  Pass(absl::Milliseconds(500));
  Use(heard);
  EXPECT_EQ(router_->AddressOf(TakeOne(ActionKind::kSend).store), late.address);
}

TEST_F(RouterTest, NamesTheRowsThatNobodyHas) {
  std::vector<StoreState> heard = testing_cluster::Partitioned(scheme_, 2, 1);
  heard.pop_back();
  Use(heard);
  ASSERT_TRUE(Submit(absl::Milliseconds(200)).ok());
  Reply(TakeOne(ActionKind::kSend));
  Pass(absl::Milliseconds(200));
  const absl::Status status = TakeOne(ActionKind::kFailed).status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("columns 4..7, 12..15, 20..23"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("no ready replica"));
}

TEST_F(RouterTest, ABatchWithoutADeadlineWaitsForAMapForALimitedTime) {
  Use({});
  parts_ = {{.piece = 0, .rows = 1, .bytes = 8, .layers = layers_}};
  layers_[1].request = 1;
  ASSERT_TRUE(
      router_
          ->Submit(1, router_->map(), parts_, kLayers, MonotonicTime::Infinite(), now_, &actions_)
          .ok());
  Pass(Router::kMapWait);
  EXPECT_EQ(TakeOne(ActionKind::kFailed).status.code(), absl::StatusCode::kUnavailable);
}

TEST_F(RouterTest, ASetThatWasCutAnewIsToBeSplitAgain) {
  UseReplicas(2, 1);
  ASSERT_TRUE(Submit().ok());
  const std::vector<RouterAction> sent = Take(ActionKind::kSend);
  UseReplicas(4, 1);
  router_->ConnectionBroken(sent[0].store, now_, &actions_);
  Pass(absl::Milliseconds(50));
  EXPECT_EQ(TakeOne(ActionKind::kFailed).status.code(), absl::StatusCode::kAborted);
}

TEST_F(RouterTest, ABusyStoreIsLeftForAsLongAsItSays) {
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

TEST_F(RouterTest, AnEjectedStoreIsTriedWithOnePart) {
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

TEST_F(RouterTest, WhatFailedAfterItsLastRowHasLanded) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit().ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  router_->LayerLanded(sent.attempt, 0, now_, &actions_);
  router_->LayerLanded(sent.attempt, 1, now_, &actions_);
  router_->ConnectionBroken(sent.store, now_, &actions_);
  TakeOne(ActionKind::kLanded);
  EXPECT_TRUE(Take(ActionKind::kSend).empty());
}

TEST_F(RouterTest, AStoreThatIsGoneIsForgottenOnceItsPartsEnded) {
  UseReplicas(1, 2);
  ASSERT_TRUE(Submit().ok());
  const RouterAction sent = TakeOne(ActionKind::kSend);
  std::vector<StoreState> heard = testing_cluster::Partitioned(scheme_, 1, 2);
  std::erase_if(heard,
                [&](const StoreState& s) { return s.address == router_->AddressOf(sent.store); });
  Use(heard);
  EXPECT_TRUE(Take(ActionKind::kForget).empty());
  Reply(sent);
  TakeOne(ActionKind::kLanded);
  EXPECT_EQ(TakeOne(ActionKind::kForget).store, sent.store);
  EXPECT_EQ(router_->AddressOf(sent.store), "");
}

TEST_F(RouterTest, DrainingStoresAreAskedLast) {
  std::vector<StoreState> heard = testing_cluster::Partitioned(scheme_, 1, 2);
  heard[0].sets[0].state = HoldingState::kDraining;
  Use(heard);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Submit().ok());
    const RouterAction sent = TakeOne(ActionKind::kSend);
    EXPECT_EQ(router_->InstanceOf(sent.store), "p0r1");
    Reply(sent);
  }
  actions_.clear();
  heard.pop_back();
  Use(heard);
  ASSERT_TRUE(Submit().ok());
  EXPECT_EQ(router_->InstanceOf(TakeOne(ActionKind::kSend).store), "p0r0");
}

TEST_F(RouterTest, CancelEndsABatch) {
  UseReplicas(1, 2);
  const BatchId batch = Submit().value();
  const RouterAction sent = TakeOne(ActionKind::kSend);
  router_->Cancel(batch, now_, &actions_);
  router_->Cancel(batch, now_, &actions_);
  EXPECT_EQ(TakeOne(ActionKind::kFailed).status.code(), absl::StatusCode::kCancelled);
  TakeOne(ActionKind::kReleased);
  TakeOne(ActionKind::kCancel);
  Reply(sent, absl::CancelledError());
  EXPECT_EQ(router_->counters().open_batches, 0);
}

TEST_F(RouterTest, AllocatesNothingWhenWarm) {
  UseReplicas(4, 2);
  for (uint32_t i = 0; i < kLayers; ++i) layers_[i].request = i;
  for (uint32_t piece = 0; piece < 4; ++piece) {
    parts_.push_back({.piece = piece, .rows = 10, .bytes = 1000, .layers = layers_});
  }
  uint64_t before = 0;
  std::vector<AttemptId> sent;
  for (int round = 0; round < 400; ++round) {
    if (round == 20) before = testing::Allocations();
    for (int i = 0; i < 8; ++i) {
      ASSERT_TRUE(
          router_
              ->Submit(1, router_->map(), parts_, kLayers, now_ + absl::Seconds(1), now_, &actions_)
              .ok());
    }
    sent.clear();
    for (const RouterAction& action : actions_) {
      if (action.kind == ActionKind::kSend) sent.push_back(action.attempt);
    }
    actions_.clear();
    now_ += absl::Milliseconds(1);
    router_->Tick(now_, &actions_);
    for (const AttemptId attempt : sent) {
      router_->LayerLanded(attempt, 0, now_, &actions_);
      router_->Reply(attempt, absl::OkStatus(), absl::ZeroDuration(), now_, &actions_);
    }
    actions_.clear();
    router_->NextTick(now_);
  }
  EXPECT_EQ(router_->counters().landed, 3200);
  EXPECT_EQ(testing::Allocations(), before);
}

}  // namespace
}  // namespace engram
