// Several steps in flight over a store that is slow, fails and completes late at random: whatever
// happens, a layer whose gate is open reads exact rows, every stream goes on, and a step that
// Finish calls good was.
#include <deque>
#include <random>

#include "gpu/prefetch/prefetcher.h"
#include "gpu/testing/prefetch_fixture.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"

namespace engram {
namespace {

using testing::Fate;
using testing::LayerSaw;
using testing::PrefetchFixture;
using testing::PrefetchWay;
using testing::RandomStep;
using testing::SmallStep;

constexpr uint32_t kMaxTokens = 24;
constexpr uint32_t kSlots = 4;
constexpr int kSteps = 400;
constexpr absl::Duration kDeadline = absl::Milliseconds(8);

// A third of the batches are in order, the others are late, failed, or late and failed.
Fate RandomFate(uint64_t batch) {
  std::mt19937 random(static_cast<uint32_t>(batch));
  Fate fate;
  const uint32_t kind = random() % 6;
  if (kind >= 2) fate.delay = absl::Microseconds(random() % 4000);
  if (kind >= 3) fate.layer_delay = absl::Microseconds(random() % 9000);
  if (kind == 4) fate.error = absl::UnavailableError("the store is gone");
  if (kind == 5 && random() % 2 == 0) fate.submit = absl::ResourceExhaustedError("too much");
  fate.failing_layer = random() % 2;
  return fate;
}

// A step that was prefetched and, on the stream, runs or has run.
struct Running {
  SmallStep step;
  StepTicket ticket;
  LayerSaw saw[2] = {};
  bool cancelled = false;
};

struct Outcomes {
  int good = 0;
  int failed = 0;
};

void FinishOldest(PrefetchFixture& fixture, std::deque<Running>& running, Outcomes* outcomes) {
  Running& oldest = running.front();
  const absl::Status status = fixture.prefetcher->Finish(oldest.ticket);
  if (status.ok()) {
    EXPECT_FALSE(oldest.cancelled);
    EXPECT_EQ(oldest.saw[0], LayerSaw::kExactRows);
    EXPECT_EQ(oldest.saw[1], LayerSaw::kExactRows);
    ++outcomes->good;
  } else {
    EXPECT_NE(oldest.saw[0], LayerSaw::kWrongRows);
    EXPECT_NE(oldest.saw[1], LayerSaw::kWrongRows);
    ++outcomes->failed;
  }
  running.pop_front();
}

void RunSteps(const PrefetchWay& way, Outcomes* outcomes) {
  PrefetchFixture fixture(way, RandomFate);
  std::mt19937 random(99);
  std::deque<Running> running;
  for (int i = 0; i < kSteps; ++i) {
    if (running.size() == kSlots) {
      // The engine reads its tokens: all that was enqueued has run.
      ASSERT_TRUE(fixture.stream->Synchronize().ok());
      const size_t finished = 1 + random() % kSlots;
      while (running.size() > kSlots - finished) FinishOldest(fixture, running, outcomes);
    }
    Running& next = running.emplace_back();
    next.step = RandomStep(kMaxTokens, random);
    const auto ticket =
        fixture.prefetcher->Prefetch(next.step.Request(RealClock().Now() + kDeadline));
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    next.ticket = *ticket;
    if (random() % 16 == 0) {
      fixture.prefetcher->Cancel(next.ticket);
      next.cancelled = true;
      continue;
    }
    for (size_t layer : {0, 1}) {
      const absl::Status status = fixture.RunLayer(next.ticket, layer, next.step, &next.saw[layer]);
      ASSERT_TRUE(status.ok()) << status;
    }
  }
  ASSERT_TRUE(fixture.stream->Synchronize().ok());
  while (!running.empty()) FinishOldest(fixture, running, outcomes);
  if (way.faulty) {
    EXPECT_GT(fixture.fault().late_batches(), 0u);
  }
}

TEST(PrefetcherStress, RowsAreExactOrTheStepFails) {
  for (const bool separate : {false, true}) {
    for (const bool distinct : {false, true}) {
      std::atomic<int> calls{0};
      PrefetchWay way{.separate_memory = separate, .faulty = true};
      way.options = {.max_tokens = kMaxTokens, .slots = kSlots, .distinct = distinct};
      if (distinct) {
        way.options.place_rows = testing::CopyingPlaceRows(&calls);
        way.options.placed_row_bytes = 264;
      }
      Outcomes outcomes;
      RunSteps(way, &outcomes);
      EXPECT_GT(outcomes.good, kSteps / 20);
      EXPECT_GT(outcomes.failed, kSteps / 20);
    }
  }
}

// Some layers wait for nothing but the cache, and what failed may not be kept.
TEST(PrefetcherStress, RowsFromAHotCacheAreExactOrTheStepFails) {
  for (const bool separate : {false, true}) {
    PrefetchWay way{.separate_memory = separate, .faulty = true};
    way.options = {.max_tokens = kMaxTokens, .slots = kSlots, .hot_cache_bytes = 400 * 8 * 264};
    Outcomes outcomes;
    RunSteps(way, &outcomes);
    EXPECT_GT(outcomes.good, kSteps / 20);
    EXPECT_GT(outcomes.failed, kSteps / 20);
  }
}

TEST(PrefetcherStress, RowsGatheredInPlaceAreExact) {
  for (const FetchPath path : {FetchPath::kTransport, FetchPath::kMapped}) {
    PrefetchWay way{.separate_memory = true};
    way.options = {.max_tokens = kMaxTokens, .slots = kSlots, .path = path};
    Outcomes outcomes;
    RunSteps(way, &outcomes);
    EXPECT_GT(outcomes.good, kSteps / 2);
  }
}

}  // namespace
}  // namespace engram
