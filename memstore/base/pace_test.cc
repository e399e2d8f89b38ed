#include "memstore/base/pace.h"

#include "gtest/gtest.h"

namespace engram {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Pace::Clock::time_point kStart{seconds(1000)};

TEST(PaceTest, KeepsTheRate) {
  Pace pace(1e6, kStart);
  EXPECT_EQ(pace.After(250'000, kStart), kStart + milliseconds(250));
  // The work's own time is part of it, and so is what was overslept.
  EXPECT_EQ(pace.After(500'000, kStart + milliseconds(260)), kStart + milliseconds(750));
  EXPECT_EQ(pace.After(250'000, kStart + milliseconds(840)), kStart + seconds(1));
}

TEST(PaceTest, MakesUpForLittleAfterALongStop) {
  Pace pace(1e6, kStart);
  const auto late = kStart + seconds(60);
  EXPECT_EQ(pace.After(10'000, late), late - Pace::kMostCatchUp + milliseconds(10));
  // A second's worth of pieces without a pause would be a burst: after 100 ms' worth it rests.
  Pace::Clock::time_point due;
  for (int i = 0; i < 100; ++i) due = pace.After(10'000, late);
  EXPECT_EQ(due, late - Pace::kMostCatchUp + milliseconds(1010));
}

}  // namespace
}  // namespace engram
