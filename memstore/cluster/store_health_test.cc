#include "memstore/cluster/store_health.h"

#include <random>

#include "gtest/gtest.h"

namespace engram {
namespace {

class StoreHealthTest : public ::testing::Test {
 protected:
  bool Fail(StoreFailure failure) { return health_.Failed(failure, now_, random_); }
  // Until it is tried again.
  absl::Duration Away() {
    const absl::Duration away = health_.ejected_until() - now_;
    EXPECT_FALSE(health_.TryAgain(health_.ejected_until() - absl::Nanoseconds(1)));
    now_ = health_.ejected_until();
    EXPECT_TRUE(health_.TryAgain(now_));
    EXPECT_EQ(health_.standing(), StoreStanding::kOnTrial);
    return away;
  }

  StoreHealth health_;
  MonotonicTime now_ = MonotonicTime() + absl::Seconds(5000);
  std::mt19937_64 random_{1};
};

TEST_F(StoreHealthTest, ErrorsEjectAfterThreeInARow) {
  EXPECT_FALSE(Fail(StoreFailure::kError));
  EXPECT_FALSE(Fail(StoreFailure::kError));
  health_.Succeeded();
  EXPECT_FALSE(Fail(StoreFailure::kError));
  EXPECT_FALSE(Fail(StoreFailure::kError));
  EXPECT_TRUE(Fail(StoreFailure::kError));
  EXPECT_EQ(health_.standing(), StoreStanding::kEjected);
  EXPECT_FALSE(Fail(StoreFailure::kBroken));  // it is already
}

TEST_F(StoreHealthTest, TheTimeAwayDoublesUntilItSucceeds) {
  absl::Duration due = StoreHealth::kFirstEjection;
  for (int i = 0; i < 12; ++i) {
    EXPECT_TRUE(Fail(StoreFailure::kBroken));
    const absl::Duration away = Away();
    EXPECT_GE(away, due * 0.8);
    EXPECT_LE(away, due * 1.2);
    due = std::min(due * 2, StoreHealth::kLongestEjection);
  }
  EXPECT_TRUE(Fail(StoreFailure::kError));  // on trial one is enough
  Away();
  health_.Succeeded();
  EXPECT_EQ(health_.standing(), StoreStanding::kUp);
  EXPECT_TRUE(Fail(StoreFailure::kBroken));
  EXPECT_LE(Away(), StoreHealth::kFirstEjection * 1.2);
}

TEST_F(StoreHealthTest, AWordEndsSilenceAlone) {
  EXPECT_TRUE(Fail(StoreFailure::kSilent));
  EXPECT_TRUE(health_.Heard());
  EXPECT_EQ(health_.standing(), StoreStanding::kUp);
  EXPECT_FALSE(health_.Heard());
  EXPECT_TRUE(Fail(StoreFailure::kBroken));
  EXPECT_FALSE(health_.Heard());
}

TEST_F(StoreHealthTest, DamageIsForGood) {
  EXPECT_TRUE(Fail(StoreFailure::kDamaged));
  health_.Succeeded();
  EXPECT_FALSE(health_.Heard());
  EXPECT_FALSE(health_.TryAgain(now_ + absl::Hours(1000)));
  EXPECT_FALSE(Fail(StoreFailure::kBroken));
  EXPECT_EQ(health_.standing(), StoreStanding::kFenced);
}

}  // namespace
}  // namespace engram
