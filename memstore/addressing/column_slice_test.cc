#include "memstore/addressing/column_slice.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Runs = std::vector<ColumnRun>;

std::string Refusal(const Runs& runs, uint32_t columns = 24) {
  const absl::Status status = ColumnSlice::Create(runs, columns).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST(ColumnSliceTest, NumbersItsColumnsAscending) {
  const auto slice = ColumnSlice::Create(Runs{{0, 2}, {8, 2}, {16, 3}}, 24);
  ASSERT_TRUE(slice.ok()) << slice.status();
  EXPECT_EQ(slice->columns(), 7u);
  EXPECT_EQ(slice->layer_columns(), 24u);
  EXPECT_FALSE(slice->is_all());
  const std::vector<uint32_t> columns = {0, 1, 8, 9, 16, 17, 18};
  for (uint32_t column = 0, next = 0; column < 24; ++column) {
    if (next < columns.size() && columns[next] == column) {
      EXPECT_EQ(slice->LayerColumn(next), column);
      EXPECT_EQ(slice->SliceColumn(column), next++);
    } else {
      EXPECT_EQ(slice->SliceColumn(column), std::nullopt) << column;
    }
  }
  EXPECT_EQ(slice->SliceColumn(UINT32_MAX), std::nullopt);
  EXPECT_EQ(slice->ToString(), "columns 0..1, 8..9, 16..18 of 24");
  std::vector<uint32_t> visited;
  slice->ForEachRun([&](uint32_t in_slice, uint32_t in_layer, uint32_t count) {
    visited.insert(visited.end(), {in_slice, in_layer, count});
  });
  EXPECT_THAT(visited, ElementsAre(0, 0, 2, 2, 8, 2, 4, 16, 3));
}

TEST(ColumnSliceTest, SlicesOfTheSameColumnsAreEqual) {
  const auto joined = ColumnSlice::Create(Runs{{2, 3}, {9, 1}}, 24);
  const auto parts = ColumnSlice::Create(Runs{{2, 1}, {3, 2}, {5, 0}, {9, 1}, {24, 0}}, 24);
  ASSERT_TRUE(parts.ok()) << parts.status();
  EXPECT_EQ(*joined, *parts);
  EXPECT_THAT(parts->runs(), ElementsAre(ColumnRun{2, 3}, ColumnRun{9, 1}));
  EXPECT_FALSE(*joined == *ColumnSlice::Create(Runs{{2, 3}, {9, 1}}, 25));
  EXPECT_FALSE(*joined == *ColumnSlice::Create(Runs{{2, 3}, {9, 1}}, 24, 1));
  EXPECT_FALSE(*joined == *ColumnSlice::Create(Runs{{2, 3}}, 24));
  EXPECT_EQ(*ColumnSlice::Create(Runs{{0, 24}}, 24), ColumnSlice::All(24));
  EXPECT_TRUE(ColumnSlice::All(24).is_all());
}

TEST(ColumnSliceTest, NoColumnsAreASliceToo) {
  for (const Runs& runs : {Runs{}, Runs{{0, 0}}, Runs{{24, 0}}}) {
    const auto slice = ColumnSlice::Create(runs, 24);
    ASSERT_TRUE(slice.ok()) << slice.status();
    EXPECT_TRUE(slice->empty());
    EXPECT_FALSE(slice->is_all());
    EXPECT_THAT(slice->runs(), IsEmpty());
    EXPECT_EQ(slice->ToString(), "no columns of 24");
  }
}

TEST(ColumnSliceTest, RefusesWhatIsNoSliceByItsRun) {
  EXPECT_THAT(
      Refusal({{0, 2}, {23, 2}}),
      HasSubstr("run 1 of the slice (columns 23..24) is beyond the layer's 24 columns: give "
                "columns below 24"));
  EXPECT_THAT(Refusal({{25, 0}}), HasSubstr("run 0 of the slice (none from column 25) is beyond"));
  EXPECT_THAT(Refusal({{UINT32_MAX, UINT32_MAX}}), HasSubstr("beyond"));
  EXPECT_THAT(Refusal({{2, UINT32_MAX}}), HasSubstr("beyond"));  // wraps to 1 in 32 bits
  EXPECT_THAT(Refusal({{0, 4}, {3, 2}}),
              HasSubstr("run 1 of the slice (columns 3..4) overlaps run 0 (columns 0..3)"));
  EXPECT_THAT(Refusal({{8, 4}, {0, 2}}),
              HasSubstr("run 1 of the slice (columns 0..1) lies before run 0 (columns 8..11): give "
                        "runs in the order"));
  EXPECT_THAT(Refusal({{8, 4}, {8, 4}}), HasSubstr("overlaps"));
  EXPECT_THAT(Refusal(Runs(9, ColumnRun{0, 0})), HasSubstr("a slice of 9 runs of columns: 8"));
  Runs eight;
  for (uint32_t i = 0; i < 8; ++i) eight.push_back({3 * i, 1});
  EXPECT_TRUE(ColumnSlice::Create(eight, 24).ok());
}

TEST(ColumnSliceTest, IsOfItsLayerAlone) {
  const auto one = ColumnSlice::Create(Runs{{0, 2}}, 24, 1);
  EXPECT_TRUE(one->Check(1, 24).ok());
  EXPECT_THAT(std::string(one->Check(15, 24).message()),
              HasSubstr("a slice of layer 1 was given for layer 15"));
  const auto every = ColumnSlice::Create(Runs{{0, 2}}, 24);
  EXPECT_TRUE(every->Check(1, 24).ok());
  EXPECT_TRUE(every->Check(15, 24).ok());
  EXPECT_THAT(std::string(every->Check(2, 12).message()),
              HasSubstr("a slice of a layer of 24 columns was given for layer 2, which has 12"));
  EXPECT_EQ(every->Check(2, 12).code(), absl::StatusCode::kInvalidArgument);
}

TEST(ColumnSliceTest, ThereIsNoneOrOneForEachLayer) {
  const ColumnSlice one = *ColumnSlice::Create(Runs{{0, 2}}, 24, 1);
  const ColumnSlice every = *ColumnSlice::Create(Runs{{0, 2}}, 24);
  const auto check = [](const std::vector<ColumnSlice>& slices) {
    return CheckSlices(
        slices, 2, [](size_t i) { return i == 0 ? 1u : 15u; }, 24);
  };
  EXPECT_TRUE(check({}).ok());
  EXPECT_TRUE(check({one, every}).ok());
  EXPECT_THAT(std::string(check({every, one}).message()),
              HasSubstr("a slice of layer 1 was given for layer 15"));
  for (const absl::Status& status : {check({one}), check({one, every, every})}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("slices of columns for 2 layers"));
  }
}

}  // namespace
}  // namespace engram
