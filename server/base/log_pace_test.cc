#include "server/base/log_pace.h"

#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

TEST(LogPace, TakesSoManyLinesOfEachSecondAndTellsOfTheOthersOnce) {
  FakeClock clock;
  LogPace pace(2, &clock);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(pace.Next().may_write, i < 2);
  clock.Advance(absl::Seconds(1));
  const LogPace::Turn turn = pace.Next();
  EXPECT_TRUE(turn.may_write);
  EXPECT_EQ(turn.left_out, 3u);
  clock.Advance(absl::Seconds(1));
  EXPECT_EQ(pace.Next().left_out, 0u);
}

}  // namespace
}  // namespace engram
