#include "client/transport/rdma/rdma_remote_table.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kRowBytes = 24;
const LayerTableSpec kLayer{
    .layer = 7, .rows = 100, .row_bytes = kRowBytes, .encoding = {}, .shards = {}};

// Regions far apart, so that a wrong one is seen.
std::vector<RemoteRegion> Regions(const std::vector<uint64_t>& bytes) {
  std::vector<RemoteRegion> regions;
  for (size_t i = 0; i < bytes.size(); ++i) {
    regions.push_back({(i + 1) << 32, bytes[i], static_cast<uint32_t>(i + 50)});
  }
  return regions;
}

TEST(RdmaRemoteTable, RowsLieOneAfterTheOtherAcrossRegions) {
  // 10 rows and 4 bytes in each: some rows lie in two.
  for (const uint64_t first_row : {uint64_t{0}, uint64_t{60}}) {
    const auto table =
        RdmaRemoteTable::Create(kLayer, first_row, 40, Regions({244, 244, 244, 228}));
    ASSERT_TRUE(table.ok()) << table.status();
    for (uint64_t i = 0; i < 40; ++i) {
      ASSERT_TRUE(table->Holds(first_row + i));
      std::array<RemoteRegion, 2> runs;
      const int count = table->Locate(first_row + i, &runs);
      uint64_t at = i * kRowBytes;  // of the table's bytes here
      for (int run = 0; run < count; ++run) {
        EXPECT_EQ(runs[run].address, ((at / 244 + 1) << 32) + at % 244) << i;
        EXPECT_EQ(runs[run].key, at / 244 + 50) << i;
        at += runs[run].bytes;
      }
      EXPECT_EQ(at, (i + 1) * kRowBytes) << i;
      EXPECT_EQ(count, i * kRowBytes / 244 == ((i + 1) * kRowBytes - 1) / 244 ? 1 : 2) << i;
    }
  }
}

TEST(RdmaRemoteTable, WhatIsNoPartOfTheManifestsTableIsRefused) {
  const auto fine = [](uint64_t first_row, uint64_t rows, const std::vector<uint64_t>& bytes) {
    const absl::Status status =
        RdmaRemoteTable::Create(kLayer, first_row, rows, Regions(bytes)).status();
    if (!status.ok()) {
      EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
    }
    return status.ok();
  };
  EXPECT_TRUE(fine(0, 100, {2400}));
  EXPECT_TRUE(fine(0, 100, {4096}));  // an arena's end
  EXPECT_TRUE(fine(0, 100, {1600, 800}));
  EXPECT_TRUE(fine(99, 1, {24}));
  EXPECT_FALSE(fine(0, 100, {}));
  EXPECT_FALSE(fine(0, 100, {2399}));
  EXPECT_FALSE(fine(0, 0, {2400}));
  EXPECT_FALSE(fine(100, 1, {2400}));
  EXPECT_FALSE(fine(99, 2, {2400}));
  EXPECT_FALSE(fine(1, ~uint64_t{0}, {2400}));
  EXPECT_FALSE(fine(0, 100, {800, 1600}));
  EXPECT_FALSE(fine(0, 100, {1600, 400, 400}));
  EXPECT_FALSE(fine(0, 1, {23, 1}));  // a row would lie in more regions than two
  EXPECT_FALSE(fine(0, 100, {~uint64_t{0}, ~uint64_t{0}}));
}

// Layers 7, of two columns, and 9.
Manifest TwoLayers() {
  Manifest manifest;
  manifest.layers = {kLayer, kLayer};
  manifest.layers[1].layer = 9;
  for (const uint32_t number : {7u, 9u}) {
    LayerAddressing layer;
    layer.layer = number;
    layer.moduli = {40, 60};
    layer.offsets = {0, 40};
    manifest.scheme.layers.push_back(layer);
  }
  return manifest;
}

TEST(RdmaRemoteSet, RowsOfEveryRangeAreFoundAndOthersRefused) {
  // Of layer 7 rows 0 to 9 and 40 to 99, of layer 9 none.
  const auto set = RdmaRemoteSet::Create(
      TwoLayers(), {{.layer = 7, .rows = {0, 10}, .regions = {{1000, 10 * kRowBytes, 5}}},
                    {.layer = 7, .rows = {40, 60}, .regions = {{5000, 60 * kRowBytes, 6}}}});
  ASSERT_TRUE(set.ok()) << set.status();
  for (RowId row = 0; row < 100; ++row) {
    const RowId ids[] = {row};
    const bool held = row < 10 || row >= 40;
    ASSERT_EQ(set->Check(7, ids).ok(), held) << row;
    EXPECT_FALSE(set->Check(9, ids).ok());
    if (!held) continue;
    std::array<RemoteRegion, 2> runs;
    ASSERT_EQ(set->Locate(7, row, &runs), 1);
    EXPECT_EQ(runs[0].key, row < 10 ? 5u : 6u);
    EXPECT_EQ(runs[0].address, row < 10 ? 1000 + row * kRowBytes : 5000 + (row - 40) * kRowBytes);
  }
  const RowId ids[] = {41, 10};
  const absl::Status status = set->Check(7, ids);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("layer 7: row 10 (index 1)"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("[0, 10), [40, 100)"));
}

TEST(RdmaRemoteSet, RangesThatAreNoneOfTheSetsAreRefused) {
  const auto create = [](const std::vector<RowRange>& ranges) {
    std::vector<RdmaRemoteSet::Range> named;
    for (const RowRange& rows : ranges) {
      named.push_back({.layer = 7, .rows = rows, .regions = {{1000, 100 * kRowBytes, 5}}});
    }
    return RdmaRemoteSet::Create(TwoLayers(), std::move(named)).status().code();
  };
  EXPECT_EQ(create({{0, 100}}), absl::StatusCode::kOk);
  EXPECT_EQ(create({}), absl::StatusCode::kInternal);
  EXPECT_EQ(create({{40, 10}, {0, 10}}), absl::StatusCode::kInternal);
  EXPECT_EQ(create({{0, 20}, {10, 20}}), absl::StatusCode::kInternal);
  EXPECT_EQ(create({{0, 10}, {90, 20}}), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace engram
