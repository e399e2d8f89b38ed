// The prefetcher with a hot cache: the same rows with and without it, whether they come out of
// device memory or travel, and what is held does not travel.
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gpu/prefetch/prefetcher.h"
#include "gpu/testing/prefetch_fixture.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using testing::ExpectExactRows;
using testing::Fate;
using ::testing::HasSubstr;
using testing::PrefetchFixture;
using testing::PrefetchWay;
using testing::RandomStep;
using testing::SmallStep;
using testing::Soon;

constexpr uint32_t kMaxTokens = 24;
constexpr uint32_t kRowBytes = 264;
constexpr uint64_t kGroupBytes = 8 * kRowBytes;
constexpr uint64_t kRoom = 4096 * kGroupBytes;  // for all that a test asks for

void RunStep(PrefetchFixture& fixture, const SmallStep& step) {
  const auto ticket = fixture.prefetcher->Prefetch(step.Request(Soon()));
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  ExpectExactRows(fixture, *ticket, step);
}

std::vector<SmallStep> Steps(int count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<SmallStep> steps;
  for (int i = 0; i < count; ++i) steps.push_back(RandomStep(kMaxTokens, random));
  return steps;
}

// Caches that hold nearly nothing, some, and all; one memory and two; rows that land while the
// next step is looked up, and rows gathered at once; left as they are, and placed.
TEST(PrefetcherHotCache, RowsAreExactWhateverItHolds) {
  const std::vector<SmallStep> steps = Steps(12, 3);
  for (const uint64_t bytes : {8 * kGroupBytes, 160 * kGroupBytes, kRoom}) {
    for (int kind = 0; kind < 8; ++kind) {
      SCOPED_TRACE(kind);
      std::atomic<int> calls{0};
      PrefetchWay way{.separate_memory = (kind & 1) != 0, .faulty = (kind & 2) != 0};
      way.options = {.max_tokens = kMaxTokens, .hot_cache_bytes = bytes};
      if ((kind & 4) != 0) {
        way.options.place_rows = testing::CopyingPlaceRows(&calls);
        way.options.placed_row_bytes = kRowBytes;
      }
      PrefetchFixture fixture(way);
      uint64_t groups = 0;
      for (int round = 0; round < 4; ++round) {
        for (const SmallStep& step : steps) {
          RunStep(fixture, step);
          groups += 2 * 3 * step.tokens();
        }
      }
      const HotCacheCounts counts = fixture.prefetcher->hot_cache();
      EXPECT_EQ(counts.groups, bytes / kGroupBytes);
      EXPECT_EQ(counts.hits + counts.misses, groups);
      if (bytes == kRoom) {
        EXPECT_GT(counts.hits, groups / 2);
      }
    }
  }
}

TEST(PrefetcherHotCache, WhatItHoldsDoesNotTravel) {
  bool is_down = false;
  PrefetchWay way{.faulty = true};
  way.options = {.max_tokens = kMaxTokens, .hot_cache_bytes = kRoom};
  PrefetchFixture fixture(way, [&is_down](uint64_t) {
    return is_down ? Fate{.error = absl::UnavailableError("the store is gone")} : Fate{};
  });
  const std::vector<SmallStep> steps = Steps(2, 8);
  RunStep(fixture, steps[0]);
  const size_t batches = fixture.fault().order().size();
  is_down = true;
  RunStep(fixture, steps[0]);
  EXPECT_EQ(fixture.fault().order().size(), batches);
  // The other step's rows have to come, and do not.
  const StepTicket failing = fixture.prefetcher->Prefetch(steps[1].Request(Soon())).value();
  EXPECT_EQ(fixture.prefetcher->Finish(failing).code(), absl::StatusCode::kUnavailable);
  // Nothing of it was kept.
  is_down = false;
  RunStep(fixture, steps[1]);
  RunStep(fixture, steps[0]);
  RunStep(fixture, steps[1]);
}

TEST(PrefetcherHotCache, RefusesWhatItIsNotFor) {
  const auto device = OpenDevice(DeviceKind::kHost, {.memory_limit_bytes = 64 << 20}).value();
  const auto transport = EmbeddedTransport::Over(testing::SmallV41());
  std::atomic<int> calls{0};
  const auto create = [&](auto change) {
    PrefetcherOptions options{.max_tokens = kMaxTokens, .hot_cache_bytes = kRoom};
    change(options);
    return Prefetcher::Create(*transport, *device, options).status();
  };
  EXPECT_THAT(std::string(create([](auto& o) { o.path = FetchPath::kMapped; }).message()),
              HasSubstr("without kMapped"));
  EXPECT_THAT(std::string(create([&](auto& o) {
                            o.distinct = true;
                            o.place_rows = testing::CopyingPlaceRows(&calls);
                            o.placed_row_bytes = kRowBytes;
                          }).message()),
              HasSubstr("without distinct"));
  EXPECT_THAT(std::string(create([](auto& o) { o.hot_cache_bytes = 100; }).message()),
              HasSubstr("8 groups at least"));
  EXPECT_EQ(create([](auto& o) { o.hot_cache_bytes = 1 << 30; }).code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace engram
