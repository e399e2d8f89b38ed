#include "memstore/cluster/retry_budget.h"

#include "gtest/gtest.h"

namespace engram {
namespace {

const MonotonicTime kStart = MonotonicTime() + absl::Seconds(5000);

uint64_t TakeAll(RetryBudget& budget, MonotonicTime now) {
  uint64_t taken = 0;
  while (budget.Take(now)) ++taken;
  return taken;
}

TEST(RetryBudgetTest, AllowsATenthAndAFew) {
  RetryBudget budget;
  EXPECT_EQ(TakeAll(budget, kStart), RetryBudget::kLeast);
  for (int i = 0; i < 1000; ++i) budget.CountFirst(kStart);
  EXPECT_EQ(TakeAll(budget, kStart), 100);
  EXPECT_EQ(TakeAll(budget, kStart + absl::Seconds(9)), 0);
}

TEST(RetryBudgetTest, ForgetsAfterTenSeconds) {
  RetryBudget budget;
  for (int i = 0; i < 1000; ++i) budget.CountFirst(kStart);
  EXPECT_EQ(TakeAll(budget, kStart + absl::Seconds(9)), 100 + RetryBudget::kLeast);
  // The first attempts are out of the window, the re-sends still in it.
  EXPECT_EQ(TakeAll(budget, kStart + absl::Seconds(12)), 0);
  EXPECT_EQ(TakeAll(budget, kStart + absl::Seconds(21)), RetryBudget::kLeast);
  EXPECT_EQ(TakeAll(budget, kStart + absl::Seconds(4000)), RetryBudget::kLeast);
}

TEST(HedgeBudgetTest, IsOneOfTwentyAndSavesUpABurst) {
  HedgeBudget budget;
  EXPECT_FALSE(budget.Take());
  for (int i = 0; i < 19; ++i) budget.CountFirst();
  EXPECT_FALSE(budget.Take());
  budget.CountFirst();
  EXPECT_TRUE(budget.Take());
  EXPECT_FALSE(budget.Take());
  for (int i = 0; i < 10'000; ++i) budget.CountFirst();
  uint32_t taken = 0;
  while (budget.Take()) ++taken;
  EXPECT_EQ(taken, HedgeBudget::kBurst);
}

}  // namespace
}  // namespace engram
