#include "memstore/base/pace.h"

#include "gtest/gtest.h"

namespace engram {
namespace {

using absl::Milliseconds;
using absl::Seconds;

constexpr MonotonicTime kStart = MonotonicTime::FromNanoseconds(1'000'000'000'000);

TEST(PaceTest, KeepsTheRate) {
  Pace pace(1e6, kStart);
  EXPECT_EQ(pace.After(250'000, kStart), kStart + Milliseconds(250));
  // The work's own time is part of it, and so is what was overslept.
  EXPECT_EQ(pace.After(500'000, kStart + Milliseconds(260)), kStart + Milliseconds(750));
  EXPECT_EQ(pace.After(250'000, kStart + Milliseconds(840)), kStart + Seconds(1));
}

TEST(PaceTest, MakesUpForLittleAfterALongStop) {
  Pace pace(1e6, kStart);
  const auto late = kStart + Seconds(60);
  EXPECT_EQ(pace.After(10'000, late), late - Pace::kMostCatchUp + Milliseconds(10));
  // A second's worth of pieces without a pause would be a burst: after 100 ms' worth it rests.
  MonotonicTime due;
  for (int i = 0; i < 100; ++i) due = pace.After(10'000, late);
  EXPECT_EQ(due, late - Pace::kMostCatchUp + Milliseconds(1010));
}

}  // namespace
}  // namespace engram
