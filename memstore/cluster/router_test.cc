#include "memstore/cluster/router.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/count_allocations.h"
#include "memstore/cluster/testing/cluster_scheme.h"
#include "memstore/cluster/testing/router_fixture.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

class RouterTest : public testing_cluster::RouterFixture {};

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
  // Each was asked once, and no map has them asked again.
  EXPECT_EQ(router_->counters().resends[static_cast<size_t>(ResendReason::kNotHeld)], 1);
  EXPECT_EQ(router_->counters().lies, 2);
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
  ASSERT_TRUE(router_
                  ->Submit(1, router_->map(), parts_, kBatchLayers, MonotonicTime::Infinite(), now_,
                           &actions_)
                  .ok());
  Pass(Router::kMapWait);
  EXPECT_EQ(TakeOne(ActionKind::kFailed).status.code(), absl::StatusCode::kUnavailable);
}

TEST_F(RouterTest, APartWhosePieceIsGoneIsSplitAgain) {
  UseReplicas(2, 1);
  const BatchId batch = Submit().value();
  const std::vector<RouterAction> sent = Take(ActionKind::kSend);
  const ClusterMap* const old = router_->map();
  router_->LayerLanded(sent[0].attempt, 0, now_, &actions_);
  UseReplicas(4, 1);
  router_->ConnectionBroken(sent[0].store, now_, &actions_);
  const RouterAction again = TakeOne(ActionKind::kSplitAgain);
  EXPECT_EQ(again.batch, batch);
  EXPECT_EQ(again.part, 0);
  EXPECT_FALSE(router_->IsMissing(batch, 0, 0));
  EXPECT_TRUE(router_->IsMissing(batch, 0, 1));
  const absl::Span<const PartLayer> second = absl::MakeConstSpan(layers_).subspan(1);
  const std::vector<SplitPart> parts = {{.piece = 0, .rows = 5, .bytes = 500, .layers = second},
                                        {.piece = 1, .rows = 5, .bytes = 500, .layers = second}};
  EXPECT_EQ(router_->TakeSplit(batch, 0, old, parts, now_, &actions_).code(),
            absl::StatusCode::kAborted);
  ASSERT_TRUE(router_->TakeSplit(batch, 0, router_->map(), parts, now_, &actions_).ok());
  // Once.
  EXPECT_EQ(router_->TakeSplit(batch, 0, router_->map(), parts, now_, &actions_).code(),
            absl::StatusCode::kFailedPrecondition);
  const std::vector<RouterAction> more = Take(ActionKind::kSend);
  ASSERT_EQ(more.size(), 2);
  EXPECT_EQ(more[0].part, 2);
  EXPECT_EQ(more[1].part, 3);
  EXPECT_NE(more[0].store, more[1].store);
  Reply(sent[1]);
  EXPECT_EQ(TakeOne(ActionKind::kLayer).layer, 0);
  Reply(more[0]);
  EXPECT_TRUE(Take(ActionKind::kLanded).empty());
  Reply(more[1]);
  EXPECT_EQ(TakeOne(ActionKind::kLayer).layer, 1);
  TakeOne(ActionKind::kLanded);
  EXPECT_EQ(router_->counters().split_again, 1);
  EXPECT_EQ(router_->counters().open_batches, 0);
}

TEST_F(RouterTest, APartThatIsNotSplitInTimeEndsAsOneWithoutAStore) {
  UseReplicas(2, 1);
  ASSERT_TRUE(Submit(absl::Seconds(60)).ok());
  const std::vector<RouterAction> sent = Take(ActionKind::kSend);
  UseReplicas(4, 1);
  router_->ConnectionBroken(sent[0].store, now_, &actions_);
  TakeOne(ActionKind::kSplitAgain);
  // The stores are as they were before anybody split it.
  UseReplicas(2, 1);
  const RouterAction again = TakeOne(ActionKind::kSend);
  EXPECT_EQ(again.part, 0);
  router_->ConnectionBroken(again.store, now_, &actions_);
  actions_.clear();
  UseReplicas(4, 1);
  Pass(absl::Seconds(1));
  TakeOne(ActionKind::kSplitAgain);
  Pass(Router::kMapWait);
  EXPECT_FALSE(TakeOne(ActionKind::kFailed).status.ok());
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
  for (uint32_t i = 0; i < kBatchLayers; ++i) layers_[i].request = i;
  for (uint32_t piece = 0; piece < 4; ++piece) {
    parts_.push_back({.piece = piece, .rows = 10, .bytes = 1000, .layers = layers_});
  }
  uint64_t before = 0;
  std::vector<AttemptId> sent;
  for (int round = 0; round < 400; ++round) {
    if (round == 20) before = testing::Allocations();
    for (int i = 0; i < 8; ++i) {
      ASSERT_TRUE(router_
                      ->Submit(1, router_->map(), parts_, kBatchLayers, now_ + absl::Seconds(1),
                               now_, &actions_)
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

TEST_F(RouterTest, ShowsHowItHasEachStoreAndPartition) {
  const auto count = [&](StoreSight sight) {
    int stores = 0;
    for (const ClusterView::Store& store : router_->View().stores) stores += store.sight == sight;
    return stores;
  };
  // Partition 1 is gone, and of the two stores of partition 0 one is about to go.
  std::vector<StoreState> heard = testing_cluster::Partitioned(scheme_, 2, 2);
  heard.resize(2);
  for (HeldSet& set : heard[0].sets) set.state = HoldingState::kDraining;
  Use(heard);
  EXPECT_EQ(router_->View().up_stores_of_piece, (std::vector<uint32_t>{1, 0}));
  EXPECT_EQ(count(StoreSight::kDraining), 1);
  EXPECT_EQ(count(StoreSight::kUp), 1);
  UseReplicas(2, 2);
  EXPECT_EQ(router_->View().up_stores_of_piece, (std::vector<uint32_t>{2, 2}));
  EXPECT_EQ(count(StoreSight::kUp), 4);
  // One of each fails.
  ASSERT_TRUE(Submit().ok());
  const std::vector<RouterAction> sent = Take(ActionKind::kSend);
  Reply(sent[0], absl::DataLossError("damaged"));
  router_->ConnectionBroken(sent[1].store, now_, &actions_);
  EXPECT_EQ(router_->View().up_stores_of_piece, (std::vector<uint32_t>{1, 1}));
  EXPECT_EQ(count(StoreSight::kFenced), 1);
  EXPECT_EQ(count(StoreSight::kEjected), 1);
  Pass(absl::Seconds(1));
  EXPECT_EQ(count(StoreSight::kOnTrial), 1);
  EXPECT_EQ(router_->View().up_stores_of_piece, (std::vector<uint32_t>{1, 1}));
}

// Refuses the part of whoever of them is asked; the other one has it.
class LiarTest : public RouterTest {
 protected:
  void SetUp() override {
    heard_ = testing_cluster::Partitioned(scheme_, 1, 2);
    Use(heard_);
    ASSERT_TRUE(Submit().ok());
    const RouterAction sent = TakeOne(ActionKind::kSend);
    liar_ = std::string(router_->InstanceOf(sent.store));
    Reply(sent, absl::FailedPreconditionError("it holds nothing"));
    const RouterAction again = TakeOne(ActionKind::kSend);
    EXPECT_NE(router_->InstanceOf(again.store), liar_);
    Reply(again);
    actions_.clear();
  }
  StoreState& Liar() { return heard_[0].instance_id == liar_ ? heard_[0] : heard_[1]; }
  bool IsAsked() {
    bool is_asked = false;
    for (int i = 0; i < 40; ++i) {
      EXPECT_TRUE(Submit().ok());
      const RouterAction sent = TakeOne(ActionKind::kSend);
      is_asked |= router_->InstanceOf(sent.store) == Liar().instance_id;
      Reply(sent);
      actions_.clear();
    }
    return is_asked;
  }

  std::vector<StoreState> heard_;
  std::string liar_;
};

TEST_F(LiarTest, NoMapMakesItBelievedAgain) {
  for (int i = 0; i < 3; ++i) {
    Use(heard_);
    EXPECT_FALSE(IsAsked());
  }
  EXPECT_EQ(router_->counters().lies, 1);
  const std::vector<RefusedStore> liars = router_->Liars();
  ASSERT_EQ(liars.size(), 1);
  EXPECT_EQ(liars[0].address, Liar().address);
  EXPECT_THAT(std::string(liars[0].why.message()),
              AllOf(HasSubstr("says it holds"), HasSubstr("it holds nothing")));
  // Load, zone and draining are no other word of what it holds.
  Liar().load = 0.5;
  Liar().sets[0].state = HoldingState::kDraining;
  Use(heard_);
  Liar().sets[0].state = HoldingState::kServing;
  Use(heard_);
  EXPECT_FALSE(IsAsked());
}

TEST_F(LiarTest, ItIsRememberedWhileItIsAway) {
  const StoreState liar = Liar();
  std::vector<StoreState> others = heard_;
  std::erase_if(others, [&](const StoreState& store) { return store.instance_id == liar_; });
  Use(others);
  TakeOne(ActionKind::kForget);
  Use(heard_);
  EXPECT_FALSE(IsAsked());
}

TEST_F(LiarTest, AnotherWordOrAnotherInstanceIsBelieved) {
  ++Liar().sets[0].generation;
  Use(heard_);
  EXPECT_TRUE(router_->Liars().empty());
  EXPECT_TRUE(IsAsked());
}

TEST_F(LiarTest, AnotherInstanceAtItsAddressIsBelieved) {
  StoreState& liar = Liar();
  liar.instance_id = liar_ = "another";
  Use(heard_);
  EXPECT_TRUE(IsAsked());
}

TEST_F(LiarTest, WhatItRefusedItIsNotAskedInPiecesEither) {
  for (const uint32_t half : {0u, 1u}) {
    heard_.push_back(testing_cluster::Store(scheme_, half == 0 ? "first" : "second", half, 2));
  }
  Use(heard_);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Submit().ok());
    for (const RouterAction& sent : Take(ActionKind::kSend)) {
      EXPECT_NE(router_->InstanceOf(sent.store), liar_);
      Reply(sent);
    }
    actions_.clear();
  }
}

TEST_F(LiarTest, WhereNobodyElseIsABatchSaysWhoRefused) {
  StoreState liar = Liar();
  Use({liar});
  ASSERT_TRUE(Submit(absl::Seconds(60)).ok());
  for (int i = 0; i < 20 && router_->counters().failed == 0; ++i) {
    EXPECT_TRUE(Take(ActionKind::kSend).empty());
    Pass(absl::Milliseconds(500));
    Use({liar});
  }
  const absl::Status status = TakeOne(ActionKind::kFailed).status;
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(liar.address), HasSubstr("says it holds")));
}

}  // namespace
}  // namespace engram
