#include "gpu/simulator/summary.h"

#include <vector>

#include "gtest/gtest.h"

namespace engram::simulator {
namespace {

Taken Turn(int64_t ns, int64_t exposed_ns = 0) {
  Taken taken;
  taken.steps = 2;
  taken.tokens = 1000;
  taken.ns = ns;
  taken.exposed_ns = exposed_ns;
  return taken;
}

TEST(Quantile, LiesBetweenValues) {
  EXPECT_EQ(Quantile({7}, 0.5), 7);
  EXPECT_EQ(Quantile({1, 2}, 0.5), 1.5);
  EXPECT_EQ(Quantile({1, 2, 3, 4, 5}, 0.25), 2);
  EXPECT_EQ(Quantile({1, 2, 3, 4, 5}, 1), 5);
}

TEST(MedianInterval, HasTheRanksOfTheBinomial) {
  // 2 / 2^5 is more than 0.05, 2 / 2^6 is less.
  EXPECT_FALSE(MedianInterval({}).has_value());
  EXPECT_FALSE(MedianInterval({1, 2, 3, 4, 5}).has_value());
  const auto six = MedianInterval({1, 2, 3, 4, 5, 6});
  ASSERT_TRUE(six.has_value());
  EXPECT_EQ(six->low, 1);
  EXPECT_EQ(six->high, 6);
  // Of 20 the 6th and the 15th, as tables have it.
  std::vector<double> twenty;
  for (int i = 1; i <= 20; ++i) twenty.push_back(i);
  EXPECT_EQ(MedianInterval(twenty)->low, 6);
  EXPECT_EQ(MedianInterval(twenty)->high, 15);
  // Where 2^n is no number any more.
  const std::vector<double> many(5000, 3);
  EXPECT_EQ(MedianInterval(many)->low, 3);
}

TEST(Summarize, TakesMediansOfTurns) {
  const std::vector<Taken> turns = {Turn(1'000'000, 100'000), Turn(2'000'000, 400'000),
                                    Turn(4'000'000, 2'000'000)};
  const Summary summary = Summarize(turns, turns, /*waits=*/true);
  EXPECT_EQ(summary.turns, 3u);
  EXPECT_EQ(summary.step_ms, 1);
  EXPECT_EQ(summary.tokens_per_s, 500'000);
  EXPECT_EQ(summary.exposed_share, 0.2);
  EXPECT_GT(summary.tokens_per_s_spread, 0);
  EXPECT_EQ(summary.loss_percent, 0);
  EXPECT_EQ(Summarize(turns, turns, /*waits=*/false).exposed_share, 0);
}

TEST(Summarize, SaysALossThatIsMoreThanTheSpread) {
  std::vector<Taken> resident, slower, same;
  for (int64_t i = 0; i < 12; ++i) {
    resident.push_back(Turn(1'000'000 + 50'000 * (i % 4)));
    slower.push_back(Turn(1'250'000 + 50'000 * (i % 4)));
    same.push_back(Turn(1'000'000 + 50'000 * ((i + 2) % 4)));
  }
  const Summary lost = Summarize(slower, resident, true);
  ASSERT_TRUE(lost.loss_percent.has_value());
  EXPECT_NEAR(*lost.loss_percent, 19, 2);
  EXPECT_LE(lost.loss_interval->low, *lost.loss_percent);
  EXPECT_GE(lost.loss_interval->high, *lost.loss_percent);
  // What the turns do not tell from none, and too few turns.
  EXPECT_FALSE(Summarize(same, resident, true).loss_percent.has_value());
  EXPECT_FALSE(Summarize({slower.data(), 3}, {resident.data(), 3}, true).loss_percent.has_value());
}

}  // namespace
}  // namespace engram::simulator
