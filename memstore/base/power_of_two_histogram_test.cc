#include "memstore/base/power_of_two_histogram.h"

#include "gtest/gtest.h"

namespace engram {
namespace {

struct PlainCounter {
  void Add(uint64_t more) { value += more; }
  uint64_t value = 0;
};

TEST(PowerOfTwoHistogram, AValueIsCountedAtTheFirstBoundThatIsNotBelowIt) {
  using Histogram = PowerOfTwoHistogram<PlainCounter, 4>;  // 1, 2, 4, 8
  EXPECT_EQ(Histogram::IndexOf(0), 0u);
  EXPECT_EQ(Histogram::IndexOf(1), 0u);
  EXPECT_EQ(Histogram::IndexOf(2), 1u);
  EXPECT_EQ(Histogram::IndexOf(3), 2u);
  EXPECT_EQ(Histogram::IndexOf(4), 2u);
  EXPECT_EQ(Histogram::IndexOf(5), 3u);
  EXPECT_EQ(Histogram::IndexOf(8), 3u);
  EXPECT_EQ(Histogram::IndexOf(9), 4u);
  EXPECT_EQ(Histogram::IndexOf(UINT64_MAX), 4u);
}

TEST(PowerOfTwoHistogram, BoundsMayBeFurtherApart) {
  using Histogram = PowerOfTwoHistogram<PlainCounter, 3, 2>;  // 1, 4, 16
  EXPECT_EQ(Histogram::Bound(0), 1u);
  EXPECT_EQ(Histogram::Bound(2), 16u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(Histogram::IndexOf(Histogram::Bound(i)), i);
    EXPECT_EQ(Histogram::IndexOf(Histogram::Bound(i) + 1), i + 1);
  }
}

TEST(PowerOfTwoHistogram, RecordsCountAndSum) {
  PowerOfTwoHistogram<PlainCounter, 4> histogram;
  histogram.Record(3, 3000);
  histogram.Record(4, 4000);
  histogram.Record(100, 100000);
  EXPECT_EQ(histogram.counts[2].value, 2u);
  EXPECT_EQ(histogram.counts[4].value, 1u);
  EXPECT_EQ(histogram.total.value, 107000u);
}

TEST(StatusCodeIndex, WhatIsNoCodeIsUnknown) {
  EXPECT_EQ(StatusCodeIndex(absl::StatusCode::kOk), 0u);
  EXPECT_EQ(StatusCodeIndex(absl::StatusCode::kUnauthenticated), 16u);
  EXPECT_EQ(StatusCodeIndex(static_cast<absl::StatusCode>(17)), 2u);
  EXPECT_EQ(StatusCodeIndex(static_cast<absl::StatusCode>(-1)), 2u);
}

}  // namespace
}  // namespace engram
