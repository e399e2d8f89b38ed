#include "memstore/partition/held_check.h"

#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

// Columns of rows [0, 5), [5, 10), ...
LayerAddressing Layer() {
  LayerAddressing layer;
  layer.layer = 14;
  layer.moduli = {5, 5, 5, 5};
  layer.offsets = {0, 5, 10, 15};
  return layer;
}

TEST(HeldCheckTest, RowsThatAreNotHeldAreNamedWithThoseThatAre) {
  const HeldLayer held = {.table_rows = 20, .ranges = {{3, 2}, {10, 5}}};
  for (uint64_t row = 0; row < 20; ++row) {
    const bool is_held = (row >= 3 && row < 5) || (row >= 10 && row < 15);
    const uint64_t wide[] = {3, row};
    const uint32_t narrow[] = {static_cast<uint32_t>(row)};
    EXPECT_EQ(CheckHeldRows<uint64_t>(held, Layer(), wide).ok(), is_held) << row;
    EXPECT_EQ(CheckHeldRows<uint32_t>(held, Layer(), narrow).ok(), is_held) << row;
  }
  const uint64_t ids[] = {3, 14, 15};
  const absl::Status status = CheckHeldRows<uint64_t>(held, Layer(), ids);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(),
            "layer 14: row 15 (index 2) is not held here, of the layer's 20 rows these are: "
            "[3, 5), [10, 15) (layer 14: columns 2..2): ask who holds it");
}

TEST(HeldCheckTest, WhereAllIsHeldNothingIsRefused) {
  const HeldLayer all = {.table_rows = 20, .ranges = {{0, 20}}};
  EXPECT_TRUE(HoldsAll(all));
  const uint64_t ids[] = {0, 19};
  EXPECT_TRUE(CheckHeldRows<uint64_t>(all, Layer(), ids).ok());
  EXPECT_FALSE(HoldsAll({.table_rows = 20, .ranges = {{0, 19}}}));
  EXPECT_FALSE(HoldsAll({.table_rows = 20, .ranges = {}}));
}

TEST(HeldCheckTest, RangesThatAreNoneAreRefused) {
  const auto check = [](std::vector<RowRange> ranges) {
    return CheckRanges({.table_rows = 20, .ranges = std::move(ranges)}, 20).ok();
  };
  EXPECT_TRUE(check({}));
  EXPECT_TRUE(check({{0, 20}}));
  EXPECT_TRUE(check({{0, 5}, {6, 14}}));
  EXPECT_FALSE(check({{0, 21}}));
  EXPECT_FALSE(check({{20, 1}}));
  EXPECT_FALSE(check({{5, 0}}));
  EXPECT_FALSE(check({{0, 5}, {5, 5}}));  // they touch
  EXPECT_FALSE(check({{0, 5}, {4, 5}}));
  EXPECT_FALSE(check({{6, 5}, {0, 5}}));
  EXPECT_FALSE(check({{1, UINT64_MAX}}));
  EXPECT_FALSE(check({{UINT64_MAX, 1}}));
  EXPECT_FALSE(CheckRanges({.table_rows = 21, .ranges = {}}, 20).ok());
}

}  // namespace
}  // namespace engram
