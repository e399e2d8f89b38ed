#include "memstore/partition/partition.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Layers 1 and 14 whose columns have 10, 11, 12, ... rows.
AddressScheme Scheme(uint32_t max_order, uint32_t heads) {
  AddressScheme scheme;
  scheme.max_order = max_order;
  scheme.heads_per_order = heads;
  for (const uint32_t number : {1u, 14u}) {
    LayerAddressing layer;
    layer.layer = number;
    uint64_t offset = 0;
    for (uint32_t c = 0; c < scheme.Columns(); ++c) {
      layer.moduli.push_back(10 + c);
      layer.offsets.push_back(offset);
      offset += 10 + c;
    }
    scheme.layers.push_back(layer);
  }
  return scheme;
}

TEST(PartitionTest, IndexIsReadAndOthersAreRefused) {
  const auto index = ParsePartitionIndex("3/8");
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_EQ(*index, (PartitionIndex{3, 8}));
  EXPECT_TRUE(ParsePartitionIndex(absl::StrCat("447/", kMaxPartitions)).ok());
  for (const char* text : {"", "/", "1", "1/", "/2", "2/2", "0/0", "0/449", "-1/2", " 0/2", "0/2 ",
                           "0/2/3", "a/2", "0x1/2", "99999999999/99999999999"}) {
    EXPECT_EQ(ParsePartitionIndex(text).status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
  EXPECT_THAT(ParsePartitionIndex("4/4").status().message(), HasSubstr("0 to 3"));
}

TEST(PartitionTest, ColumnsAreReadInAnyOrderAndJoined) {
  const auto columns = ParsePartitionColumns("14:4-5,1:7,14:0-1,14:2-3,1:0");
  ASSERT_TRUE(columns.ok()) << columns.status();
  EXPECT_THAT(*columns, ElementsAre(HeldColumns{1, {{0, 1}, {7, 1}}}, HeldColumns{14, {{0, 6}}}));
  EXPECT_EQ(ToString(*columns), "layer 1: columns 0..0, 7..7; layer 14: columns 0..5");
}

TEST(PartitionTest, ColumnsThatAreNoneAreRefused) {
  for (const char* text : {"", "1", "1:", ":1", "1:2-", "1:-2", "1:3-2", "1:2,", "1:448", "x:1",
                           "1:0-4294967295", "1:1:2", "1:1-2-3"}) {
    EXPECT_EQ(ParsePartitionColumns(text).status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
  EXPECT_THAT(ParsePartitionColumns("1:0-4,2:0,1:4-5").status().message(),
              HasSubstr("column 4 of layer 1"));
}

// Every column of every layer in one partition, whatever their number.
TEST(PartitionTest, PartitionsAreDisjointAndAllOfIt) {
  for (const uint32_t orders : {1u, 2u, 3u, 7u}) {
    for (const uint32_t heads : {1u, 3u, 8u}) {
      const AddressScheme scheme = Scheme(orders + 1, heads);
      for (uint32_t count = 1; count <= scheme.Columns(); ++count) {
        std::vector<int> seen(scheme.Columns());
        for (uint32_t k = 0; k < count; ++k) {
          const auto columns = ColumnsOf(PartitionIndex{k, count}, scheme);
          ASSERT_TRUE(columns.ok()) << columns.status();
          ASSERT_EQ(columns->size(), 2u);
          EXPECT_EQ((*columns)[0].runs, (*columns)[1].runs);
          ASSERT_FALSE((*columns)[0].runs.empty());
          uint64_t end = 0;
          for (const ColumnRun& run : (*columns)[0].runs) {
            EXPECT_TRUE(&run == &(*columns)[0].runs[0] || run.first_column > end) << "they touch";
            end = run.first_column + run.columns;
            for (uint64_t c = run.first_column; c < end; ++c) ++seen.at(c);
          }
        }
        EXPECT_EQ(seen, std::vector<int>(scheme.Columns(), 1))
            << orders << "x" << heads << "/" << count;
      }
    }
  }
}

TEST(PartitionTest, ACountThatDividesTheHeadsGivesTheSameHeadsOfEveryOrder) {
  const auto columns = ColumnsOf(PartitionIndex{1, 4}, Scheme(4, 8));
  ASSERT_TRUE(columns.ok()) << columns.status();
  EXPECT_EQ((*columns)[0], (HeldColumns{1, {{2, 2}, {10, 2}, {18, 2}}}));
}

TEST(PartitionTest, OneThatDoesNotTakesHeadByHead) {
  // 6 columns, of heads 0 (columns 0 and 3), 1 (1 and 4) and 2 (2 and 5): 1/4 is place 1 to 2.
  const auto columns = ColumnsOf(PartitionIndex{1, 4}, Scheme(3, 3));
  ASSERT_TRUE(columns.ok()) << columns.status();
  EXPECT_EQ((*columns)[0], (HeldColumns{1, {{1, 1}, {3, 1}}}));
}

TEST(PartitionTest, MorePartitionsThanColumnsAreRefused) {
  EXPECT_THAT(ColumnsOf(PartitionIndex{0, 7}, Scheme(3, 3)).status().message(),
              HasSubstr("1 to 6 partitions"));
}

TEST(PartitionTest, GivenColumnsAreTheSchemesLayers) {
  const AddressScheme scheme = Scheme(3, 2);
  const std::vector<HeldColumns> asked = {{14, {{1, 2}}}};
  const auto columns = ColumnsOf(asked, scheme);
  ASSERT_TRUE(columns.ok()) << columns.status();
  EXPECT_THAT(*columns, ElementsAre(HeldColumns{1, {}}, HeldColumns{14, {{1, 2}}}));
  EXPECT_EQ(ToString(*columns), "layer 1: no columns; layer 14: columns 1..2");

  const std::vector<HeldColumns> unknown = {{2, {{0, 1}}}};
  EXPECT_THAT(ColumnsOf(unknown, scheme).status().message(), HasSubstr("layer 2"));
  const std::vector<HeldColumns> wide = {{1, {{2, 3}}}};
  EXPECT_THAT(ColumnsOf(wide, scheme).status().message(), HasSubstr("columns 0..3"));
  const std::vector<HeldColumns> none = {{1, {}}};
  EXPECT_EQ(ColumnsOf(none, scheme).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PartitionTest, RowsAreThoseOfTheColumns) {
  const AddressScheme scheme = Scheme(3, 2);  // columns of 10, 11, 12, 13 rows
  const std::vector<HeldColumns> asked = {{1, {{0, 1}, {2, 2}}}, {14, {}}};
  const std::vector<HeldLayer> rows = RowsOf(asked, scheme);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0], (HeldLayer{46, {{0, 10}, {21, 25}}}));
  EXPECT_EQ(rows[1], (HeldLayer{46, {}}));
  EXPECT_EQ(HeldRows(rows[0]), 35u);
  EXPECT_EQ(ToString(rows[0]), "[0, 10), [21, 46)");
  EXPECT_EQ(ToString(rows[1]), "none");
  for (uint64_t row = 0; row < 50; ++row) {
    EXPECT_EQ(Holds(rows[0], row), row < 10 || (row >= 21 && row < 46)) << row;
    EXPECT_FALSE(Holds(rows[1], row));
  }
  EXPECT_EQ(WholeColumnsIn(rows[0], scheme.layers[0]), asked[0]);
}

TEST(PartitionTest, AColumnThatIsHeldInPartIsLeftOut) {
  const AddressScheme scheme = Scheme(3, 2);
  EXPECT_EQ(WholeColumnsIn({46, {{1, 20}, {21, 24}}}, scheme.layers[0]),
            (HeldColumns{1, {{1, 2}}}));
  EXPECT_EQ(WholeColumnsIn({46, {{0, 9}}}, scheme.layers[0]), (HeldColumns{1, {}}));
}

}  // namespace
}  // namespace engram
