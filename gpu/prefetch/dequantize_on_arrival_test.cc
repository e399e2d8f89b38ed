#include "gpu/prefetch/dequantize_on_arrival.h"

#include <cstring>
#include <vector>

#include "gpu/testing/dequantized_rows.h"
#include "gpu/testing/prefetch_fixture.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using testing::DequantizedRows;
using testing::PrefetchFixture;
using testing::PrefetchWay;
using testing::RandomStep;
using testing::SmallStep;
using testing::SmallV41;
using testing::Soon;

constexpr uint32_t kMaxTokens = 48;

TEST(DequantizeOnArrival, LayersReadTheValuesOfTheirRows) {
  for (const bool separate : {false, true}) {
    for (const bool distinct : {false, true}) {
      const auto device = OpenDevice(DeviceKind::kHost, {}).value();
      const RowPlacing placing = DequantizeOnArrival(SmallV41()->manifest(), *device).value();
      EXPECT_EQ(placing.placed_row_bytes, 512u);
      PrefetchWay way{.separate_memory = separate};
      way.options = {.max_tokens = kMaxTokens,
                     .distinct = distinct,
                     .place_rows = placing.place_rows,
                     .placed_row_bytes = placing.placed_row_bytes};
      PrefetchFixture fixture(way);
      std::mt19937 random(2);
      for (int i = 0; i < 6; ++i) {
        const SmallStep step = RandomStep(kMaxTokens, random);
        const StepTicket ticket = fixture.prefetcher->Prefetch(step.Request(Soon())).value();
        const absl::Status status = fixture.prefetcher->Finish(ticket);
        ASSERT_TRUE(status.ok()) << status;
        for (size_t layer : {0, 1}) {
          const std::vector<uint16_t> expected = DequantizedRows(step, layer);
          const PlacedRows rows =
              fixture.prefetcher->Rows(ticket, PrefetchFixture::LayerNumber(layer)).value();
          ASSERT_EQ(std::memcmp(rows.rows, expected.data(), expected.size() * 2), 0);
        }
      }
    }
  }
}

TEST(DequantizeOnArrival, RefusesRowsWithoutValuesAndLayersThatDiffer) {
  const auto device = OpenDevice(DeviceKind::kHost, {}).value();
  Manifest manifest = SmallV41()->manifest();
  manifest.layers[1].encoding.dim = 128;
  EXPECT_EQ(DequantizeOnArrival(manifest, *device).status().code(),
            absl::StatusCode::kInvalidArgument);
  manifest.layers[1].encoding = {};
  EXPECT_EQ(DequantizeOnArrival(manifest, *device).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace engram
