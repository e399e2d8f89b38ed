// The router under random events: stores that answer, fail, fall silent, break, are damaged, come
// and go; and what has to hold whatever happens.

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "memstore/cluster/router.h"
#include "memstore/cluster/testing/cluster_scheme.h"

namespace engram {
namespace {

constexpr uint32_t kPartitions = 2;
constexpr uint32_t kLayers = 2;
constexpr uint64_t kSteps = 30'000;
// Each partition's, and that of nobody's columns.
constexpr uint64_t kPieces = kPartitions + 1;

class Cluster {
 public:
  // `written_share`: of the stores; `error_share`: of the replies.
  Cluster(uint64_t seed, double written_share, double error_share = 0.05)
      : random_(seed), draws_(seed + 1), written_share_(written_share), error_share_(error_share) {
    router_ = std::make_unique<Router>(
        RouterOptions{.client_id = "client",
                      .zone = "",
                      .way = written_share > 0 ? LandingWay::kWritten : LandingWay::kCopied},
        &draws_);
    heard_ = testing_cluster::Partitioned(scheme_, kPartitions, 3);
    UseMap();
  }

  void Run() {
    for (uint64_t step = 0; step < kSteps && !::testing::Test::HasFailure(); ++step) {
      Pass(absl::Microseconds(random_() % 2000));
      Step();
    }
    // Everything is answered in the end.
    for (int i = 0; i < 10'000 && (!attempts_.empty() || !open_.empty()); ++i) {
      Pass(absl::Milliseconds(5));
      while (!attempts_.empty()) End(attempts_.begin()->first, /*may_fail=*/false);
    }
    EXPECT_TRUE(open_.empty());
    EXPECT_EQ(router_->counters().open_attempts, 0);
    EXPECT_EQ(router_->counters().open_batches, 0);
    const RouterCounters& counters = router_->counters();
    EXPECT_EQ(counters.landed + counters.failed, counters.batches);
    EXPECT_GT(counters.landed, error_share_ < 0.1 ? counters.batches / 10 : 0);
    EXPECT_GT(counters.failed, 0);
  }

  const RouterCounters& counters() const { return router_->counters(); }

 private:
  struct Sent {
    BatchId batch;
    uint32_t part;
    StoreId store;
    LandingWay way;
    bool is_cancelled = false;
    bool is_draining = false;
    std::set<uint32_t> layers;  // that it was sent for
  };
  struct Open {
    MonotonicTime deadline;
    std::map<std::pair<uint32_t, uint32_t>, StoreId> landed;  // [part, layer]
    uint32_t parts = 0;
  };

  bool Chance(double share) { return static_cast<double>(random_() >> 11) * 0x1p-53 < share; }

  void UseMap() {
    map_due_ = MonotonicTime::Infinite();
    std::vector<StoreState> ready;
    for (StoreState& store : heard_) {
      // Else who refused once is believed no more.
      if (Chance(0.3)) ++store.sets[0].generation;
      if (!Chance(0.1)) ready.push_back(store);
    }
    router_->SetMap(*ClusterMap::Create(testing_cluster::kSetId, scheme_, ready), now_, &actions_);
    Take();
  }

  // Never beyond the next tick.
  void Pass(absl::Duration span) {
    const MonotonicTime until = now_ + span;
    while (true) {
      const MonotonicTime next = router_->NextTick(now_);
      ASSERT_GT(next, now_);
      if (next > until) break;
      now_ = next;
      router_->Tick(now_, &actions_);
      Take();
    }
    now_ = until;
  }

  void Submit() {
    PartLayer layers[kLayers];
    for (uint32_t i = 0; i < kLayers; ++i) layers[i].request = i;
    std::vector<SplitPart> parts;
    for (uint32_t piece = 0; piece < router_->map()->pieces().size(); ++piece) {
      // Some parts have rows of the second layer alone.
      const absl::Span<const PartLayer> all(layers);
      parts.push_back({.piece = piece,
                       .rows = 1,
                       .bytes = uint64_t{1} << random_() % 20,
                       .layers = Chance(0.2) ? all.subspan(1) : all});
    }
    const MonotonicTime deadline = now_ + absl::Milliseconds(1 + random_() % 400);
    const auto batch =
        router_->Submit(0, router_->map(), parts, kLayers, deadline, now_, &actions_);
    ASSERT_TRUE(batch.ok()) << batch.status();
    Open& open = open_[*batch];
    open.deadline = deadline;
    open.parts = static_cast<uint32_t>(parts.size());
    for (uint32_t p = 0; p < parts.size(); ++p) {
      if (parts[p].layers.size() < kLayers) open.landed[{p, 0}] = UINT32_MAX;  // not asked for
    }
    Take();
  }

  void Step() {
    if (open_.size() < 30 && Chance(0.5)) Submit();
    if (Chance(0.001) || now_ >= map_due_) UseMap();
    if (Chance(0.001) && !attempts_.empty()) Break(attempts_.begin()->second.store);
    if (Chance(0.001))
      silent_ = 1 + static_cast<StoreId>(random_() % 6),
      silent_until_ = now_ + absl::Milliseconds(300);
    for (int i = 0; i < 4 && !attempts_.empty(); ++i) {
      auto at = attempts_.lower_bound(random_() % (attempts_.rbegin()->first + 1));
      if (at == attempts_.end()) continue;
      if (at->second.store == silent_ && now_ < silent_until_ && !at->second.is_draining) continue;
      if (Chance(0.3)) {
        Progress(at->first);
      } else {
        End(at->first, /*may_fail=*/true);
      }
    }
  }

  void Progress(AttemptId id) {
    const Sent sent = attempts_[id];
    if (sent.is_draining) return;
    if (sent.way == LandingWay::kCopied && Chance(0.5)) {
      const bool may = router_->MayLand(id, now_, &actions_);
      EXPECT_FALSE(may && sent.is_cancelled);
      if (may) {
        EXPECT_EQ(router_->CurrentAttempt(sent.batch, sent.part), id);
      }
    } else if (!sent.layers.empty()) {
      Land(sent, *sent.layers.begin());
      router_->LayerLanded(id, *sent.layers.begin(), now_, &actions_);
    }
    Take();
  }

  void Land(const Sent& sent, uint32_t layer) {
    const auto open = open_.find(sent.batch);
    if (!sent.is_cancelled && open != open_.end()) {
      open->second.landed.try_emplace({sent.part, layer}, sent.store);
    }
  }

  void Break(StoreId store) {
    std::erase_if(attempts_, [&](const auto& entry) {
      return entry.second.store == store && entry.second.way == LandingWay::kCopied;
    });
    router_->ConnectionBroken(store, now_, &actions_);
    Take();
  }

  void End(AttemptId id, bool may_fail) {
    const Sent sent = attempts_[id];
    attempts_.erase(id);
    if (sent.is_draining) {
      router_->Drained(id, now_, &actions_);
    } else {
      absl::Status status;
      if (sent.is_cancelled) status = absl::CancelledError();
      if (may_fail && Chance(error_share_)) status = RandomError();
      if (status.ok()) {
        for (const uint32_t layer : sent.layers) Land(sent, layer);
      }
      router_->Reply(id, status, absl::Milliseconds(random_() % 20), now_, &actions_);
    }
    Take();
  }

  absl::Status RandomError() {
    static constexpr absl::StatusCode kCodes[] = {
        absl::StatusCode::kUnavailable,        absl::StatusCode::kResourceExhausted,
        absl::StatusCode::kDeadlineExceeded,   absl::StatusCode::kInternal,
        absl::StatusCode::kFailedPrecondition, absl::StatusCode::kInvalidArgument,
        absl::StatusCode::kCancelled};
    if (Chance(0.0001 / error_share_)) return absl::DataLossError("random");
    return absl::Status(kCodes[random_() % std::size(kCodes)], "random");
  }

  // Does what the router says, and holds it against what it may say.
  void Take() {
    CheckBudgets();
    std::vector<RouterAction> actions;
    actions.swap(actions_);
    for (const RouterAction& action : actions) {
      switch (action.kind) {
        case ActionKind::kSend:
          TakeSend(action);
          break;
        case ActionKind::kCancel:
          if (attempts_.contains(action.attempt)) attempts_[action.attempt].is_cancelled = true;
          break;
        case ActionKind::kDrain:
          ASSERT_TRUE(attempts_.contains(action.attempt));
          EXPECT_EQ(action.way, LandingWay::kWritten);
          attempts_[action.attempt].is_draining = true;
          break;
        case ActionKind::kLanded:
          TakeEnd(action);
          ExpectNoWriter(action.batch);
          break;
        case ActionKind::kFailed:
          EXPECT_FALSE(action.status.ok());
          TakeEnd(action);
          EXPECT_TRUE(lent_.insert(action.batch).second);
          break;
        case ActionKind::kReleased:
          EXPECT_EQ(lent_.erase(action.batch), 1);
          ExpectNoWriter(action.batch);
          break;
        case ActionKind::kFence:
          for (auto& [batch, open] : open_) {
            std::erase_if(open.landed, [&](const auto& e) { return e.second == action.store; });
          }
          break;
        case ActionKind::kSplitAgain:
          TakeSplit(action);
          break;
        case ActionKind::kAskForMap:
          map_due_ = now_ + absl::Milliseconds(20);
          break;
        case ActionKind::kTryAgain:
          router_->SetWay(action.store,
                          Chance(written_share_) ? LandingWay::kWritten : LandingWay::kCopied);
          break;
        default:
          break;
      }
    }
  }

  // Into two, of whatever pieces: the router knows no rows.
  void TakeSplit(const RouterAction& action) {
    const auto open = open_.find(action.batch);
    if (open == open_.end()) return;
    std::vector<PartLayer> layers;
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      if (router_->IsMissing(action.batch, action.part, layer)) {
        layers.push_back({.request = layer});
      }
    }
    const SplitPart part = {.piece = 0, .rows = 1, .bytes = 1000, .layers = layers};
    const std::vector<SplitPart> parts(2, part);
    const uint32_t first = open->second.parts;
    const absl::Status status =
        router_->TakeSplit(action.batch, action.part, router_->map(), parts, now_, &actions_);
    if (!status.ok()) return;
    open->second.parts += 2;
    for (const PartLayer& layer : layers) {
      open->second.landed[{action.part, layer.request}] = UINT32_MAX;
    }
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      if (layers.size() == kLayers || layers[0].request == layer) continue;
      for (uint32_t p = first; p < first + 2; ++p) open->second.landed[{p, layer}] = UINT32_MAX;
    }
    Take();
  }

  void TakeSend(const RouterAction& action) {
    for (const auto& [id, other] : attempts_) {
      if (other.batch != action.batch || other.part != action.part) continue;
      EXPECT_NE(other.way, LandingWay::kWritten) << "it may still write";
      if (action.way == LandingWay::kWritten) {
        EXPECT_TRUE(other.is_cancelled) << "two of a part, one of which is written";
      }
    }
    Sent sent{.batch = action.batch,
              .part = action.part,
              .store = action.store,
              .way = action.way,
              .layers = {}};
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      if (router_->IsMissing(action.batch, action.part, layer)) sent.layers.insert(layer);
    }
    EXPECT_TRUE(attempts_.emplace(action.attempt, sent).second);
  }

  void TakeEnd(const RouterAction& action) {
    const auto open = open_.find(action.batch);
    ASSERT_NE(open, open_.end()) << "a second end";
    EXPECT_LE(now_, open->second.deadline);
    if (action.kind == ActionKind::kLanded) {
      EXPECT_EQ(open->second.landed.size(), open->second.parts * kLayers);
    }
    open_.erase(open);
  }

  void ExpectNoWriter(BatchId batch) {
    for (const auto& [id, sent] : attempts_) {
      EXPECT_FALSE(sent.batch == batch && sent.way == LandingWay::kWritten);
    }
  }

  void CheckBudgets() {
    const RouterCounters& counters = router_->counters();
    uint64_t resends = 0;
    for (const uint64_t of_reason : counters.resends) resends += of_reason;
    EXPECT_LE(counters.hedges * 20, counters.first_attempts);
    const bool changed = resends != last_.resends;
    last_ = {now_, counters.first_attempts, resends};
    history_.push_back(last_);
    while (history_.size() > 1 && history_[1].time <= now_ - absl::Seconds(10))
      history_.pop_front();
    if (!changed) return;
    const Mark& before = history_.front();
    EXPECT_LE(resends - before.resends,
              (counters.first_attempts - before.firsts) / RetryBudget::kShare +
                  RetryBudget::kLeast * kPieces);
  }

  struct Mark {
    MonotonicTime time;
    uint64_t firsts = 0;
    uint64_t resends = 0;
  };

  const AddressScheme scheme_ = testing_cluster::Scheme();
  std::mt19937_64 random_, draws_;
  const double written_share_, error_share_;
  MonotonicTime map_due_ = MonotonicTime::Infinite();
  MonotonicTime now_ = MonotonicTime() + absl::Seconds(1000);
  std::unique_ptr<Router> router_;
  std::vector<StoreState> heard_;
  std::vector<RouterAction> actions_;
  std::map<AttemptId, Sent> attempts_;
  std::map<BatchId, Open> open_;
  std::set<BatchId> lent_;
  std::deque<Mark> history_;
  Mark last_;
  StoreId silent_ = 0;
  MonotonicTime silent_until_;
};

TEST(RouterPropertyTest, CopiedPartsKeepTheRules) {
  uint64_t hedges = 0;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(seed);
    Cluster cluster(seed, 0);
    cluster.Run();
    EXPECT_EQ(cluster.counters().drains, 0);
    hedges += cluster.counters().hedges;
  }
  EXPECT_GT(hedges, 0);
}

TEST(RouterPropertyTest, WrittenPartsKeepTheRules) {
  uint64_t drains = 0;
  for (uint64_t seed = 11; seed <= 14; ++seed) {
    SCOPED_TRACE(seed);
    Cluster cluster(seed, 1);
    cluster.Run();
    drains += cluster.counters().drains;
  }
  EXPECT_GT(drains, 0);
}

TEST(RouterPropertyTest, AClusterInTroubleIsNotAskedWithoutEnd) {
  uint64_t refused = 0;
  for (uint64_t seed = 31; seed <= 34; ++seed) {
    SCOPED_TRACE(seed);
    Cluster cluster(seed, 0.3, 0.6);
    cluster.Run();
    for (const uint64_t of_reason : cluster.counters().refusals) refused += of_reason;
  }
  EXPECT_GT(refused, 0);
}

TEST(RouterPropertyTest, MixedPartsKeepTheRules) {
  for (uint64_t seed = 21; seed <= 24; ++seed) {
    SCOPED_TRACE(seed);
    Cluster(seed, 0.5).Run();
  }
}

}  // namespace
}  // namespace engram
