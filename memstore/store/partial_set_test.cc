// Table sets of which a part alone is loaded.
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/partition/held_check.h"
#include "memstore/store/held_blocks.h"
#include "memstore/store/resident_pages.h"
#include "memstore/store/table_set.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

using ::testing::HasSubstr;
using testing::SmallLayer;
using testing::SmallTableSet;
using testing::WriteSmallTableSet;

constexpr uint32_t kRowBytes = 264;

// Four columns of 8192 rows, each in two shards of its own, and of blocks of 132 KiB.
const SmallLayer kWide = {.layer = 1, .row_bytes = kRowBytes, .rows = 4 * 8192};
// No block ends where a page or a column does.
const SmallLayer kOdd = {
    .layer = 14, .row_bytes = 90, .rows = 4 * 3100, .shard_rows = 4096, .block_rows = 37};

class PartialSetTest : public ::testing::Test {
 protected:
  PartialSetTest()
      : directory_(absl::StrCat(::testing::TempDir(), "/partial_set_",
                                ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    small_.columns = 4;
    small_.layers = {kWide, kOdd};
    options_.arena.try_hugetlb = false;
    options_.arena.try_transparent_huge = false;
  }
  ~PartialSetTest() override { std::filesystem::remove_all(directory_); }

  void Write() {
    absl::StatusOr<Manifest> manifest = WriteSmallTableSet(small_, directory_);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    manifest_ = *std::move(manifest);
  }
  absl::StatusOr<std::shared_ptr<const TableSet>> Load(const std::optional<Partition>& partition) {
    options_.partition = partition;
    return TableSet::Load(directory_, options_);
  }
  // Changes a byte of a row in its shard's file.
  void Damage(size_t layer, uint64_t row) {
    for (const ShardSpec& shard : manifest_.layers[layer].shards) {
      if (row < shard.first_row || row >= shard.first_row + shard.rows) continue;
      const auto at = static_cast<std::streamoff>(
          kShardHeaderBytes + (row - shard.first_row) * manifest_.layers[layer].row_bytes);
      std::fstream file(directory_ + "/" + shard.file);
      file.seekg(at);
      const int there = file.get();
      file.seekp(at);
      file.put(static_cast<char>(there ^ 1));
    }
  }

  const std::string directory_;
  SmallTableSet small_;
  Manifest manifest_;
  LoadOptions options_;
};

void ExpectExact(const TableSet& set) {
  std::vector<std::byte> row;
  for (size_t i = 0; i < set.layers().size(); ++i) {
    const GatherTable& table = set.layers()[i].table;
    row.resize(table.row_bytes);
    for (const RowRange& range : set.held()[i].ranges) {
      for (uint64_t r = range.first; r < range.first + range.rows; ++r) {
        SyntheticRow(set.layers()[i].layer, r, absl::MakeSpan(row));
        ASSERT_EQ(std::memcmp(row.data(), table.base + r * table.row_bytes, row.size()), 0)
            << "layer " << set.layers()[i].layer << " row " << r;
      }
    }
  }
}

// Dividing the columns or not; on every kind of page, and shareable.
TEST_F(PartialSetTest, EveryPartIsExactAndTogetherTheyAreAllOfIt) {
  Write();
  for (const bool huge : {false, true}) {
    options_.arena.try_hugetlb = huge;
    options_.arena.try_transparent_huge = huge;
    options_.arena.shareable = huge;
    for (const uint32_t count : {1u, 2u, 3u, 4u}) {
      uint64_t rows = 0;
      for (uint32_t k = 0; k < count; ++k) {
        SCOPED_TRACE(absl::StrCat(k, "/", count));
        const auto set = Load(PartitionIndex{k, count});
        ASSERT_TRUE(set.ok()) << set.status();
        ExpectExact(**set);
        EXPECT_EQ((*set)->row_source().holds_all(), count == 1);
        EXPECT_EQ((*set)->row_source().held(), (*set)->held());
        EXPECT_TRUE((*set)->row_source().resident());
        for (const HeldLayer& layer : (*set)->held()) rows += HeldRows(layer);
      }
      EXPECT_EQ(rows, kWide.rows + kOdd.rows);
    }
  }
}

// Resident is what is held, and the blocks at the ends of its runs; of holes there is no page.
TEST_F(PartialSetTest, HolesTakeNoMemory) {
  small_.layers = {kWide};
  Write();
  for (const bool shareable : {false, true}) {
    options_.arena.shareable = shareable;
    const auto set = Load(PartitionIndex{1, 4});
    ASSERT_TRUE(set.ok()) << set.status();
    const uint64_t rows = uint64_t{8192} * kRowBytes;
    EXPECT_EQ((*set)->held_row_bytes(), rows);
    EXPECT_GE((*set)->resident_bytes(), rows);
    EXPECT_LE((*set)->resident_bytes(), rows + 2 * 512 * kRowBytes + 2 * 4096);
    const auto counted = ReadResidentPages((*set)->page_ranges());
    ASSERT_TRUE(counted.ok()) << counted.status();
    EXPECT_EQ(counted->front().Total(), (*set)->resident_bytes());
    EXPECT_EQ((*set)->loaded_pages().Total(), (*set)->resident_bytes());
  }
}

TEST_F(PartialSetTest, DamageIsRefusedWhereItIsReadAndNotLookedAtElsewhere) {
  small_.layers = {kWide};
  Write();
  const uint64_t first = 8192;  // of partition 1/4
  Damage(0, 0);
  Damage(0, first - 513);
  Damage(0, first + 8192 + 512);
  ASSERT_TRUE(Load(PartitionIndex{1, 4}).ok());
  EXPECT_EQ(Load(PartitionIndex{0, 4}).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Load(PartitionIndex{2, 4}).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Load(std::nullopt).status().code(), absl::StatusCode::kDataLoss);
  Damage(0, first + 4000);
  const absl::Status inside = Load(PartitionIndex{1, 4}).status();
  EXPECT_EQ(inside.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(inside.message(), HasSubstr("layer1-2.rows"));
}

TEST_F(PartialSetTest, ProgressCountsWhatIsRead) {
  small_.layers = {kWide};
  Write();
  std::vector<LoadProgress> heard;
  options_.on_progress = [&](const LoadProgress& progress) { heard.push_back(progress); };
  ASSERT_TRUE(Load(PartitionIndex{3, 4}).ok());
  ASSERT_FALSE(heard.empty());
  EXPECT_EQ(heard.back().bytes_total, uint64_t{8192} * kRowBytes);  // blocks end where columns do
  EXPECT_EQ(heard.back().bytes_done, heard.back().bytes_total);
}

// Known, and asked for, before it is taken.
TEST_F(PartialSetTest, ItsMemoryIsThatOfThePart) {
  small_.layers = {kWide};
  Write();
  uint64_t asked = 0;
  options_.may_take = [&](uint64_t bytes) {
    asked = bytes;
    return absl::OkStatus();
  };
  options_.available_memory_bytes = uint64_t{8192} * kRowBytes + 4096;
  const auto set = Load(PartitionIndex{0, 4});
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(asked, (*set)->resident_bytes());
  EXPECT_EQ(Load(std::nullopt).status().code(), absl::StatusCode::kResourceExhausted);

  const auto held = HeldBy(PartitionIndex{0, 4}, manifest_);
  ASSERT_TRUE(held.ok()) << held.status();
  const uint64_t most = MostResidentBytes(manifest_, *held);
  EXPECT_GE(most, asked);
  EXPECT_LE(most, asked + kHugePageBytes);
}

TEST_F(PartialSetTest, ColumnsMayBeNamedAndALayerMayHaveNone) {
  Write();
  const auto set = Load(std::vector<HeldColumns>{{14, {{1, 1}, {3, 1}}}});
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ((*set)->held()[0], (HeldLayer{kWide.rows, {}}));
  EXPECT_EQ((*set)->held()[1], (HeldLayer{kOdd.rows, {{3100, 3100}, {9300, 3100}}}));
  ExpectExact(**set);
  EXPECT_EQ((*set)->arena(0).held_bytes(), 0u);
  const std::vector<RowId> ids = {3100, 0};
  const std::vector<LayerAddressing>& layers = manifest_.scheme.layers;
  const absl::Status status = CheckHeldRows<RowId>((*set)->held()[1], layers[1], ids);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("[3100, 6200), [9300, 12400)"));
  EXPECT_THAT(status.message(), HasSubstr("columns 1..1, 3..3"));
  EXPECT_FALSE(CheckHeldRows<RowId>((*set)->held()[0], layers[0], {ids.data(), 1}).ok());
}

TEST_F(PartialSetTest, APartThatTheSetHasNotGotIsRefused) {
  Write();
  const absl::Status many = Load(PartitionIndex{0, 5}).status();
  EXPECT_EQ(many.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(many.message(), HasSubstr("small"));
  EXPECT_THAT(Load(std::vector<HeldColumns>{{2, {{0, 1}}}}).status().message(),
              HasSubstr("layer 2"));
}

}  // namespace
}  // namespace engram
