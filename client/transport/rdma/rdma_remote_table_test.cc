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
      ASSERT_TRUE(table->CheckRow(first_row + i).ok());
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

TEST(RdmaRemoteTable, RowsBelowTheFirstAndBehindTheLastAreRefusedByName) {
  const auto table = RdmaRemoteTable::Create(kLayer, 60, 40, Regions({40 * kRowBytes}));
  ASSERT_TRUE(table.ok()) << table.status();
  for (const RowId row : {RowId{59}, RowId{0}, RowId{100}, ~RowId{0}}) {
    const absl::Status status = table->CheckRow(row);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << row;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(absl::StrCat("layer 7: row ", row, " is not one of the rows 60 to 99")));
    EXPECT_FALSE(table->Holds(row));
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

}  // namespace
}  // namespace engram
