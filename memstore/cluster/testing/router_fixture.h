// What the tests of the router share: one router, its time, and stores that answer as a test says.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "memstore/cluster/cluster_map.h"
#include "memstore/cluster/router.h"
#include "memstore/cluster/testing/cluster_scheme.h"

namespace engram::testing_cluster {

// One router, its time, and what it asked for since the test looked last.
class RouterFixture : public ::testing::Test {
 protected:
  static constexpr uint32_t kBatchLayers = 2;

  RouterFixture() { Make({.client_id = "client", .zone = ""}); }

  void Make(RouterOptions options) {
    router_ = std::make_unique<Router>(std::move(options), &random_);
  }
  void Use(const std::vector<StoreState>& heard) {
    auto map = ClusterMap::Create(kSetId, scheme_, heard);
    ASSERT_TRUE(map.ok()) << map.status();
    router_->SetMap(*map, now_, &actions_);
  }
  void UseReplicas(uint32_t partitions, uint32_t replicas) {
    Use(Partitioned(scheme_, partitions, replicas));
  }

  // A batch of both layers and every piece.
  absl::StatusOr<BatchId> Submit(absl::Duration time = absl::Seconds(1)) {
    for (uint32_t i = 0; i < kBatchLayers; ++i) layers_[i].request = i;
    parts_.clear();
    for (uint32_t piece = 0; piece < router_->map()->pieces().size(); ++piece) {
      parts_.push_back({.piece = piece, .rows = 10, .bytes = 1000, .layers = layers_});
    }
    return router_->Submit(++tag_, router_->map(), parts_, kBatchLayers, now_ + time, now_,
                           &actions_);
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

  const AddressScheme scheme_ = Scheme();
  std::mt19937_64 random_{5};
  std::unique_ptr<Router> router_;
  MonotonicTime now_ = MonotonicTime() + absl::Seconds(1000);
  std::vector<RouterAction> actions_;
  PartLayer layers_[kBatchLayers];
  std::vector<SplitPart> parts_;
  uint64_t tag_ = 0;
};

}  // namespace engram::testing_cluster
