#include "tests/bench/cluster/balance.h"

#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "memstore/addressing/families.h"

namespace engram::bench {
namespace {

std::shared_ptr<const Addresser> AddresserOf(const char* family) {
  const absl::StatusOr<const Family*> found = FindFamily(family);
  EXPECT_TRUE(found.ok()) << found.status();
  const absl::StatusOr<AddressScheme> scheme = Derive(**found, {});
  EXPECT_TRUE(scheme.ok()) << scheme.status();
  const auto addresser = Addresser::Create(*scheme, nullptr);
  EXPECT_TRUE(addresser.ok()) << addresser.status();
  return *addresser;
}

// Pairs come again all the time, triples never.
std::vector<int32_t> PairsThatRepeat() {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 600; ++i) ids.insert(ids.end(), {7, 8, i + 100});
  return ids;
}

TEST(BalanceTest, HeadsAreEvenWhereOrdersAreNot) {
  const auto addresser = AddresserOf("qwen4-exp");
  const std::vector<int32_t> ids = PairsThatRepeat();
  const BalanceOptions heads = {.cut = Cut::kHeads, .partitions = 2, .batch_tokens = 300};
  const absl::StatusOr<Balance> even = BalanceOf(*addresser, ids, heads);
  ASSERT_TRUE(even.ok()) << even.status();
  EXPECT_LT(MaxOverMean(even->distinct), 1.01);
  EXPECT_LT(MaxOverMean(even->missed), 1.01);
  BalanceOptions columns = heads;
  columns.cut = Cut::kColumns;  // the first half is of pairs
  const absl::StatusOr<Balance> uneven = BalanceOf(*addresser, ids, columns);
  ASSERT_TRUE(uneven.ok()) << uneven.status();
  EXPECT_GT(MaxOverMean(uneven->distinct), 1.1);
  EXPECT_EQ(Sum(even->distinct), Sum(uneven->distinct));
}

TEST(BalanceTest, ACacheTakesWhatComesAgain) {
  const auto addresser = AddresserOf("qwen4-exp");
  const absl::StatusOr<Balance> balance =
      BalanceOf(*addresser, PairsThatRepeat(), {.partitions = 2, .batch_tokens = 300});
  ASSERT_TRUE(balance.ok()) << balance.status();
  EXPECT_LT(Sum(balance->missed), Sum(balance->distinct));
  EXPECT_EQ(balance->tokens, 900);
}

TEST(BalanceTest, OfPartitionsThatCutNoHeadsEvenlyNothingIsSaid) {
  const auto addresser = AddresserOf("qwen4-exp");
  const absl::StatusOr<Balance> balance =
      BalanceOf(*addresser, PairsThatRepeat(), {.partitions = 3, .batch_tokens = 300});
  EXPECT_TRUE(absl::IsInvalidArgument(balance.status())) << balance.status();
}

}  // namespace
}  // namespace engram::bench
