// A soak notices what it is for: each thing that may go wrong, done by hand.
#include "tests/soak/soak_batch.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/table/synthetic.h"

namespace engram::soak {
namespace {

using ::testing::HasSubstr;

class SoakBatchTest : public ::testing::Test {
 protected:
  SoakBatchTest() {
    manifest_.layers = {{.layer = 1, .rows = 900, .row_bytes = 264, .encoding = {}, .shards = {}},
                        {.layer = 14, .rows = 70, .row_bytes = 110, .encoding = {}, .shards = {}}};
    manifest_.scheme.max_order = 3;
    manifest_.scheme.heads_per_order = 4;
  }
  // A batch that has landed as it must.
  void Land(uint64_t tokens) {
    ASSERT_TRUE(batch_.Draw(manifest_, tokens, 100'000, draws_).ok());
    for (const LayerRequest& request : batch_.layers()) {
      for (uint64_t i = 0; i < request.row_ids.size(); ++i) {
        SyntheticRow(request.layer, request.row_ids[i], {RowAt(request, i), RowBytes(request)});
      }
    }
    ExpectRight();
  }
  void ExpectRight() {
    for (size_t i = 0; i < batch_.layers().size(); ++i) EXPECT_TRUE(batch_.CheckRows(i).ok());
    EXPECT_TRUE(batch_.CheckOutside().ok()) << batch_.CheckOutside();
  }
  uint64_t RowBytes(const LayerRequest& request) const {
    return manifest_.FindLayer(request.layer)->row_bytes;
  }
  std::byte* RowAt(const LayerRequest& request, uint64_t row) const {
    const Landing& to = request.landing;
    if (to.group_rows == 0) return to.data + row * RowBytes(request);
    return to.data + row / to.group_rows * to.group_stride_bytes +
           row % to.group_rows * RowBytes(request);
  }
  static void Flip(std::byte* byte) { *byte ^= std::byte{1}; }

  Manifest manifest_;
  Draws draws_{7};
  SoakBatch batch_;
};

TEST_F(SoakBatchTest, AByteOfARow) {
  for (int round = 0; round < 50; ++round) {
    Land(1 + draws_.Below(30));
    const size_t index = draws_.Below(batch_.layers().size());
    const LayerRequest& request = batch_.layers()[index];
    const uint64_t row = draws_.Below(request.row_ids.size());
    std::byte* const byte = RowAt(request, row) + draws_.Below(RowBytes(request));
    Flip(byte);
    const absl::Status status = batch_.CheckRows(index);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("place ", row, " of")));
    EXPECT_TRUE(batch_.CheckOutside().ok());
    Flip(byte);
    ExpectRight();
  }
}

TEST_F(SoakBatchTest, AByteOutside) {
  int gaps = 0;
  for (int round = 0; round < 50; ++round) {
    Land(1 + draws_.Below(30));
    const LayerRequest& request = batch_.layers()[draws_.Below(batch_.layers().size())];
    const uint64_t rows = request.row_ids.size(), group = request.landing.group_rows;
    std::vector<std::byte*> outside = {request.landing.data - 1,
                                       RowAt(request, rows - 1) + RowBytes(request)};
    const uint64_t group_bytes = group * RowBytes(request);
    if (group > 0 && rows > group && request.landing.group_stride_bytes > group_bytes) {
      outside.push_back(request.landing.data + group_bytes);
      ++gaps;
    }
    for (std::byte* const byte : outside) {
      Flip(byte);
      EXPECT_EQ(batch_.CheckOutside().code(), absl::StatusCode::kInternal);
      Flip(byte);
    }
    ExpectRight();
  }
  EXPECT_GT(gaps, 0);
}

TEST_F(SoakBatchTest, AByteAfterReap) {
  Land(20);
  std::byte* const byte = RowAt(batch_.layers()[0], 3);
  batch_.GiveBack();
  EXPECT_TRUE(batch_.CheckGivenBack().ok());
  Flip(byte);
  EXPECT_EQ(batch_.CheckGivenBack().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(batch_.Draw(manifest_, 1, 1000, draws_).code(), absl::StatusCode::kInternal);
}

TEST_F(SoakBatchTest, DrawsBatchesOfEveryKind) {
  int one_layer = 0, dense = 0, second_first = 0, one_row = 0;
  for (int round = 0; round < 300; ++round) {
    const uint64_t tokens = draws_.Size(500);
    ASSERT_TRUE(batch_.Draw(manifest_, tokens, 1000, draws_).ok());
    ASSERT_LE(batch_.rows(), 1000u);
    ASSERT_GE(batch_.rows(), 1u);
    one_layer += batch_.layers().size() == 1;
    second_first += batch_.layers()[0].layer == 14;
    dense += batch_.layers()[0].landing.group_rows == 0;
    one_row += batch_.layers()[0].row_ids.size() == 1;
    for (const LayerRequest& request : batch_.layers()) {
      for (const RowId id : request.row_ids) {
        ASSERT_LT(id, manifest_.FindLayer(request.layer)->rows);
      }
    }
  }
  for (const int count : {one_layer, dense, second_first, one_row}) EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace engram::soak
