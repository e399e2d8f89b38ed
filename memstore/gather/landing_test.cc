#include "memstore/gather/landing.h"

#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using RowRun = std::tuple<uint64_t, uint64_t, uint64_t>;  // offset, first, rows

std::vector<RowRun> RunsOf(const Landing& landing, uint64_t begin, uint64_t end,
                           uint64_t row_bytes) {
  std::vector<RowRun> runs;
  landing.ForEachRun(begin, end, row_bytes, [&](std::byte* place, uint64_t first, uint64_t rows) {
    runs.emplace_back(place - landing.data, first, rows);
  });
  return runs;
}

// The header's formula, word for word.
uint64_t PlainOffset(const Landing& landing, uint64_t row, uint64_t row_bytes) {
  const uint64_t place = landing.places.empty() ? row : landing.places[row];
  if (landing.group_rows == 0) return place * row_bytes;
  return place / landing.group_rows * landing.group_stride_bytes +
         place % landing.group_rows * row_bytes;
}

// Each row of every range is visited once, in order, at its place, and runs do not touch.
void ExpectRunsAreThePlaces(const Landing& landing, uint64_t rows, uint64_t row_bytes) {
  for (uint64_t begin = 0; begin <= rows; ++begin) {
    for (uint64_t end = begin; end <= rows; ++end) {
      uint64_t next = begin;
      uint64_t run_end = UINT64_MAX;
      for (const auto& [offset, first, count] : RunsOf(landing, begin, end, row_bytes)) {
        ASSERT_EQ(first, next);
        ASSERT_GT(count, 0u);
        ASSERT_NE(offset, run_end) << "two runs that are one";
        for (uint64_t i = 0; i < count; ++i) {
          ASSERT_EQ(offset + i * row_bytes, PlainOffset(landing, first + i, row_bytes));
          ASSERT_EQ(landing.PlaceOf(first + i, row_bytes) - landing.data,
                    static_cast<ptrdiff_t>(offset + i * row_bytes));
        }
        next = first + count;
        run_end = offset + count * row_bytes;
      }
      ASSERT_EQ(next, end);
    }
  }
}

class LandingTest : public ::testing::Test {
 protected:
  std::vector<std::byte> bytes_ = std::vector<std::byte>(4096);
};

TEST_F(LandingTest, RunsAreThePlacesOfEveryRange) {
  for (const uint64_t group_rows : {0u, 1u, 2u, 3u, 8u, 100u}) {
    for (const uint64_t gap : {0u, 7u}) {
      SCOPED_TRACE(group_rows * 1000 + gap);
      ExpectRunsAreThePlaces({bytes_.data(), group_rows, group_rows * 10 + gap}, 17, 10);
    }
  }
}

TEST_F(LandingTest, ListedRunsAreThePlacesOfEveryRange) {
  const std::vector<uint32_t> places = {4, 5, 6, 7, 0, 1, 11, 10, 9, 13, 14, 15, 2, 3};
  for (const uint64_t group_rows : {0u, 1u, 3u, 8u, 100u}) {
    SCOPED_TRACE(group_rows);
    const Landing landing{bytes_.data(), group_rows, group_rows * 10 + 7, places};
    ExpectRunsAreThePlaces(landing, places.size(), 10);
  }
}

TEST_F(LandingTest, ARunEndsWithItsGroupOrWithTheList) {
  EXPECT_THAT(RunsOf({bytes_.data(), 0, 0}, 2, 9, 10), ElementsAre(RowRun(20, 2, 7)));
  EXPECT_THAT(RunsOf({bytes_.data(), 4, 40}, 2, 9, 10), ElementsAre(RowRun(20, 2, 7)));
  EXPECT_THAT(RunsOf({bytes_.data(), 4, 50}, 2, 9, 10),
              ElementsAre(RowRun(20, 2, 2), RowRun(50, 4, 4), RowRun(100, 8, 1)));
  const std::vector<uint32_t> places = {2, 3, 4, 9};
  EXPECT_THAT(RunsOf({bytes_.data(), 4, 50, places}, 0, 4, 10),
              ElementsAre(RowRun(20, 0, 2), RowRun(50, 2, 1), RowRun(110, 3, 1)));
}

TEST_F(LandingTest, ExtentEndsWithTheLastRow) {
  EXPECT_EQ(*Landing{}.Extent(0, 10), 0u);
  EXPECT_EQ(*Landing{}.Extent(7, 10), 70u);
  EXPECT_EQ(*(Landing{nullptr, 3, 50}).Extent(3, 10), 30u);
  EXPECT_EQ(*(Landing{nullptr, 3, 50}).Extent(4, 10), 60u);
  EXPECT_EQ(*(Landing{nullptr, 3, 50}).Extent(9, 10), 130u);
  const std::vector<uint32_t> places = {1, 8, 0};
  EXPECT_EQ(*(Landing{nullptr, 3, 50, places}).Extent(3, 10), 130u);
  EXPECT_EQ(*(Landing{nullptr, 0, 0, places}).Extent(3, 10), 90u);
}

TEST_F(LandingTest, ExtentRefusesWhatNoBufferCanBe) {
  const auto message = [](const absl::StatusOr<uint64_t>& extent) {
    EXPECT_EQ(extent.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(extent.status().message());
  };
  EXPECT_THAT(message(Landing{nullptr, 3, 29}.Extent(1, 10)),
              HasSubstr("a group of 3 rows of 10 bytes does not fit a stride of 29 bytes"));
  EXPECT_THAT(message(Landing{nullptr, 3, 29}.Extent(0, 10)), HasSubstr("does not fit"));
  // 2^61 * 16 wraps to 0.
  EXPECT_THAT(message(Landing{nullptr, uint64_t{1} << 60, 100}.Extent(1, 16)),
              HasSubstr("does not fit"));
  EXPECT_THAT(message(Landing{}.Extent(uint64_t{1} << 60, 16)), HasSubstr("beyond any memory"));
  EXPECT_THAT(message(Landing{nullptr, 1, uint64_t{1} << 62}.Extent(6, 16)),
              HasSubstr("beyond any memory"));
  EXPECT_THAT(message(Landing{nullptr, 1, UINT64_MAX}.Extent(2, 16)),
              HasSubstr("beyond any memory"));
  const std::vector<uint32_t> places = {1, 8, 0};
  EXPECT_THAT(message(Landing{nullptr, 0, 0, places}.Extent(4, 10)),
              HasSubstr("lists 3 places for 4 rows"));
}

}  // namespace
}  // namespace engram
