#include "memstore/addressing/head_slice.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

AddressScheme Shape(uint32_t max_order, uint32_t heads) {
  AddressScheme scheme;
  scheme.family = "shape";
  scheme.max_order = max_order;
  scheme.heads_per_order = heads;
  return scheme;
}

TEST(HeadSliceTest, TheSameHeadsOfEveryOrderAreARunEach) {
  const auto slice = SliceOfHeads(Shape(4, 8), 2, 2);
  ASSERT_TRUE(slice.ok()) << slice.status();
  EXPECT_THAT(slice->runs(), ElementsAre(ColumnRun{2, 2}, ColumnRun{10, 2}, ColumnRun{18, 2}));
  EXPECT_EQ(slice->layer_columns(), 24u);
  EXPECT_EQ(SliceOfHeads(Shape(4, 8), 0, 8).value(), ColumnSlice::All(24));
  EXPECT_EQ(SliceOfHeads(Shape(kMaxOrder, 3), 1, 1)->runs().size(), kMaxOrder - 1);
  EXPECT_TRUE(SliceOfHeads(Shape(4, 8), 8, 0)->empty());
}

TEST(HeadSliceTest, RanksTakeEveryColumnOnceWhateverTheirNumber) {
  const AddressScheme scheme = Shape(4, 8);
  for (uint32_t ranks = 1; ranks <= 11; ++ranks) {
    std::vector<int> taken(24);
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      const uint32_t first = rank * 8 / ranks;
      const auto slice = SliceOfHeads(scheme, first, (rank + 1) * 8 / ranks - first);
      ASSERT_TRUE(slice.ok()) << slice.status();
      for (uint32_t i = 0; i < slice->columns(); ++i) ++taken[slice->LayerColumn(i)];
    }
    EXPECT_EQ(taken, std::vector<int>(24, 1)) << ranks << " ranks";
  }
}

TEST(HeadSliceTest, HeadsBeyondTheSchemesAreRefused) {
  for (const auto& [first, heads] : {std::pair(0u, 9u), {8u, 1u}, {7u, UINT32_MAX}}) {
    const absl::Status status = SliceOfHeads(Shape(4, 8), first, heads).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("has 8 heads an order"));
  }
}

}  // namespace
}  // namespace engram
