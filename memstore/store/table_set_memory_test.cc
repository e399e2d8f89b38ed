// What loading a table set says of memory before it takes any.
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/scheme.h"
#include "memstore/store/held_blocks.h"
#include "memstore/store/table_set.h"
#include "memstore/store/testing/small_table_set.h"

namespace engram {
namespace {

using ::testing::HasSubstr;
using testing::SmallLayer;
using testing::SmallTableSet;
using testing::WriteSmallTableSet;

class TableSetMemoryTest : public ::testing::Test {
 protected:
  TableSetMemoryTest()
      : directory_(absl::StrCat(::testing::TempDir(), "/table_set_memory_",
                                ::testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  ~TableSetMemoryTest() override { std::filesystem::remove_all(directory_); }
  Manifest Write(const SmallTableSet& set) const {
    absl::StatusOr<Manifest> manifest = WriteSmallTableSet(set, directory_);
    EXPECT_TRUE(manifest.ok()) << manifest.status();
    return manifest.ok() ? *std::move(manifest) : Manifest();
  }
  absl::StatusOr<std::shared_ptr<const TableSet>> Load(const LoadOptions& options) const {
    return TableSet::Load(directory_, options);
  }

  const std::string directory_;
};

TEST_F(TableSetMemoryTest, ATableThatDoesNotFitIsRefusedWithBothSizes) {
  Write({.layers = {SmallLayer{.layer = 1, .row_bytes = 264, .rows = 5000},
                    SmallLayer{.layer = 14,
                               .row_bytes = 90,
                               .rows = 3 * 4096 + 77,
                               .shard_rows = 4096,
                               .block_rows = 1000}}});
  LoadOptions options;
  options.arena.try_hugetlb = false;
  options.arena.try_transparent_huge = false;
  options.available_memory_bytes = 1000000;
  const absl::Status status = Load(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(status.message(), HasSubstr("1000000 bytes"));
  EXPECT_THAT(status.message(), HasSubstr("2437120 bytes"));
  options.available_memory_bytes = 2437120;
  EXPECT_TRUE(Load(options).ok());
}

TEST_F(TableSetMemoryTest, WhatItTakesIsAskedForBeforeTheTokenMapIsRead) {
  SmallTableSet set;
  set.with_token_map = true;
  Write(set);
  std::ofstream(directory_ + "/" + kTokenMapFile)
      << std::string(400, 'x');  // it is not the manifest's
  LoadOptions options;
  options.arena.try_hugetlb = false;
  options.arena.try_transparent_huge = false;
  std::vector<uint64_t> asked;
  options.may_take = [&](uint64_t bytes) {
    asked.push_back(bytes);
    return absl::ResourceExhaustedError("too much");
  };
  EXPECT_THAT(Load(options).status().message(), HasSubstr("too much"));
  // 5,000 rows of 264 bytes in whole pages of 4 KiB, and a map of 100 ids.
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0] % 4096, 400u);
  EXPECT_GE(asked[0], 5000u * 264 + 400);
}

TEST_F(TableSetMemoryTest, ManySmallLayersTakeAHugePageEach) {
  SmallTableSet set;
  set.layers.clear();
  for (uint32_t layer = 0; layer < 3; ++layer) set.layers.push_back({.layer = layer, .rows = 1});
  const Manifest manifest = Write(set);
  EXPECT_EQ(MostResidentBytes(manifest, *HeldBy(std::nullopt, manifest)), uint64_t{3} << 21);
}

}  // namespace
}  // namespace engram
