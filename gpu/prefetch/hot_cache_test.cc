#include "gpu/prefetch/hot_cache.h"

#include <cstring>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kHeads = 4, kRowBytes = 24, kGroupBytes = kHeads * kRowBytes, kMaxGroups = 200;
constexpr uint32_t kGroups[] = {kHeads};  // of a token

class HotCacheTest : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Device>> device =
        OpenDevice(GetParam(), {.separate_memory = true});
    if (!device.ok()) GTEST_SKIP() << device.status().message();
    device_ = *std::move(device);
    stream_ = device_->MakeStream("hot-cache").value();
    to_ = device_->Allocate(MemoryKind::kDevice, size_t{kMaxGroups} * kGroupBytes).value();
  }
  static std::string RowsOf(uint32_t layer, absl::Span<const RowId> row_ids) {
    std::string rows(row_ids.size() * kRowBytes, '\0');
    for (size_t i = 0; i < row_ids.size(); ++i) {
      SyntheticRow(layer, row_ids[i],
                   {reinterpret_cast<std::byte*>(&rows[i * kRowBytes]), kRowBytes});
    }
    return rows;
  }
  // One layer of a step, as a worker does it; what is in place in the end.
  std::string Step(HotCache& cache, uint32_t layer, const std::vector<RowId>& row_ids,
                   absl::Span<const uint32_t> groups = kGroups) {
    std::string rows(row_ids.size() * kRowBytes, 'x');
    EXPECT_TRUE(stream_->Copy(to_.data(), rows.data(), rows.size()).ok());
    std::vector<RowGroup> missing;
    EXPECT_TRUE(cache.Lookup(layer, groups, row_ids, to_.data(), *stream_, &missing).ok());
    std::vector<std::string> fetched;
    for (const RowGroup& group : missing) {
      fetched.push_back(
          RowsOf(layer, absl::MakeConstSpan(row_ids).subspan(group.first, group.rows)));
      EXPECT_TRUE(stream_
                      ->Copy(to_.data() + size_t{group.first} * kRowBytes, fetched.back().data(),
                             fetched.back().size())
                      .ok());
    }
    EXPECT_TRUE(cache.Keep(layer, row_ids, missing, to_.data(), *stream_).ok());
    EXPECT_TRUE(stream_->Copy(rows.data(), to_.data(), rows.size()).ok());
    EXPECT_TRUE(stream_->Synchronize().ok());
    return rows;
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  DeviceBuffer to_;
};

// A cache far too small, the same n-gram several times in a step, two layers in turn.
TEST_P(HotCacheTest, RowsAreAlwaysThoseOfTheTable) {
  for (const uint64_t places : {8, 24, 400}) {
    auto cache = HotCache::Create({.bytes = places * kGroupBytes,
                                   .group_rows = kHeads,
                                   .row_bytes = kRowBytes,
                                   .max_groups = kMaxGroups},
                                  *device_);
    ASSERT_TRUE(cache.ok()) << cache.status();
    std::mt19937 random(5);
    std::geometric_distribution<uint64_t> often(0.02);
    for (int step = 0; step < 300; ++step) {
      const uint32_t layer = step % 2 == 0 ? 1 : 14;
      std::vector<RowId> row_ids;
      for (uint32_t group = random() % kMaxGroups; group-- > 0;) {
        const uint64_t number = often(random);
        for (uint64_t head = 0; head < kHeads; ++head) row_ids.push_back(number * 31 + head * 1000);
      }
      ASSERT_EQ(Step(**cache, layer, row_ids), RowsOf(layer, row_ids)) << "step " << step;
    }
    EXPECT_GT((*cache)->hits(), 0u);
    if (places == 400) {
      EXPECT_GT((*cache)->hits(), 5 * (*cache)->misses());
    }
  }
}

// One set of eight places and two n-grams of a step that are both given the same one: the place has
// the rows of the one that the index names. The host backend copies the last group first, as a
// device might: two copies to one place would leave the wrong rows.
TEST_P(HotCacheTest, APlaceThatIsGivenAwayTwiceInAStepHasTheRowsOfItsOwner) {
  auto cache = HotCache::Create({.bytes = uint64_t{HotCacheIndex::kWays} * kGroupBytes,
                                 .group_rows = kHeads,
                                 .row_bytes = kRowBytes,
                                 .max_groups = kMaxGroups},
                                *device_)
                   .value();
  const auto group = [](uint64_t number) {
    return std::vector<RowId>{number, 1000 + number, 2000 + number, 3000 + number};
  };
  const auto append = [](std::vector<RowId>& ids, const std::vector<RowId>& more, int times) {
    for (int i = 0; i < times; ++i) ids.insert(ids.end(), more.begin(), more.end());
  };
  std::vector<RowId> filling;
  for (uint64_t number = 0; number < HotCacheIndex::kWays; ++number) {
    append(filling, group(number), number == 0 ? 1 : 12);  // number 0 is the rarest
  }
  for (int i = 0; i < 2; ++i) Step(*cache, 1, filling);
  // Three sightings take the rarest's place; six take that place again.
  std::vector<RowId> rivals;
  append(rivals, group(100), 4);
  append(rivals, group(200), 7);
  EXPECT_EQ(Step(*cache, 1, rivals), RowsOf(1, rivals));
  const uint64_t hits = cache->hits();
  const std::vector<RowId> last = group(200);
  EXPECT_EQ(Step(*cache, 1, last), RowsOf(1, last));
  EXPECT_EQ(cache->hits(), hits + 1) << "the rows were to come out of the cache";
}

TEST_P(HotCacheTest, RefusesWhatItCanNotHold) {
  const HotCacheOptions good{.bytes = uint64_t{80} * kGroupBytes,
                             .group_rows = kHeads,
                             .row_bytes = kRowBytes,
                             .max_groups = 4};
  const auto refused = [&](auto change) {
    HotCacheOptions options = good;
    change(options);
    return std::string(HotCache::Create(options, *device_).status().message());
  };
  EXPECT_THAT(refused([](auto& o) { o.bytes = 100; }), HasSubstr("8 groups at least"));
  EXPECT_THAT(refused([](auto& o) { o.group_rows = 0; }), HasSubstr("a row at least"));
  EXPECT_THAT(refused([](auto& o) { o.row_bytes = 0; }), HasSubstr("a row at least"));
  EXPECT_THAT(refused([](auto& o) { o.max_groups = 0; }), HasSubstr("one group at least"));
  auto cache = HotCache::Create(good, *device_).value();
  std::vector<RowGroup> missing;
  const std::vector<RowId> many(size_t{5} * kHeads), ragged(kHeads + 1), one(kHeads);
  const auto look_up = [&](const std::vector<RowId>& ids,
                           const std::vector<uint32_t>& groups = {kHeads}) {
    return std::string(cache->Lookup(1, groups, ids, to_.data(), *stream_, &missing).message());
  };
  EXPECT_THAT(look_up(many), HasSubstr("at most 4"));
  EXPECT_THAT(look_up(ragged), HasSubstr("whole tokens"));
  EXPECT_THAT(look_up(one, {}), HasSubstr("whole tokens"));
  EXPECT_THAT(look_up(one, {0, kHeads}), HasSubstr("groups of 1 to 4 rows"));
  EXPECT_THAT(look_up(ragged, {kHeads + 1}), HasSubstr("groups of 1 to 4 rows"));
  EXPECT_EQ(look_up(one), "");
  // A caller that is wrong about what it fetched: nothing is found from then on.
  const std::vector<RowGroup> wrong = {{0, kHeads}, {1, kHeads}};
  EXPECT_FALSE(cache->Keep(1, one, wrong, to_.data(), *stream_).ok());
  EXPECT_THAT(look_up(one), HasSubstr("a group of 4 rows from 1 on"));
}

// Slices give layers groups of other sizes, and a layer's orders too.
TEST_P(HotCacheTest, GroupsOfAnySizesKeepTheirRows) {
  const std::vector<uint32_t> by_layer[] = {{3, 1, 4}, {2, 2}, {1}};
  auto cache = HotCache::Create({.bytes = uint64_t{48} * kGroupBytes,
                                 .group_rows = kHeads,
                                 .row_bytes = kRowBytes,
                                 .max_groups = kMaxGroups},
                                *device_)
                   .value();
  std::mt19937 random(6);
  std::geometric_distribution<uint64_t> often(0.1);
  for (int step = 0; step < 400; ++step) {
    const uint32_t layer = step % 3;
    std::vector<RowId> row_ids;
    for (uint32_t token = random() % 60; token-- > 0;) {
      uint64_t column = 0;
      for (const uint32_t rows : by_layer[layer]) {
        const uint64_t number = often(random);
        for (uint32_t row = 0; row < rows; ++row) {
          row_ids.push_back(number * 31 + column++ * 1000);
        }
      }
    }
    ASSERT_EQ(Step(*cache, layer, row_ids, by_layer[layer]), RowsOf(layer, row_ids))
        << "step " << step;
  }
  EXPECT_GT(cache->hits(), 1000u);
}

INSTANTIATE_TEST_SUITE_P(Devices, HotCacheTest,
                         ::testing::Values(DeviceKind::kHost, DeviceKind::kCuda),
                         [](const auto& info) {
                           return info.param == DeviceKind::kHost ? "Host" : "Cuda";
                         });

}  // namespace
}  // namespace engram
