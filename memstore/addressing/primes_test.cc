#include "memstore/addressing/primes.h"

#include <vector>

#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(PrimesTest, AgreesWithTheSieve) {
  constexpr uint64_t kEnd = 100000;
  std::vector<bool> composite(kEnd);
  for (uint64_t i = 2; i < kEnd; ++i) {
    ASSERT_EQ(IsPrime(i), !composite[i]) << i;
    for (uint64_t multiple = i * i; multiple < kEnd; multiple += i) composite[multiple] = true;
  }
  EXPECT_FALSE(IsPrime(0));
  EXPECT_FALSE(IsPrime(1));
}

TEST(PrimesTest, LargeNumbers) {
  EXPECT_TRUE(IsPrime(18446744073709551557u));  // the largest below 2^64
  EXPECT_TRUE(IsPrime((uint64_t{1} << 61) - 1));
  EXPECT_FALSE(IsPrime(18446744073709551615u));
  EXPECT_FALSE(IsPrime(4294967291u * uint64_t{4294967279u}));
  // Strong pseudoprimes to the first witnesses: 2; 2..7; 2..17.
  EXPECT_FALSE(IsPrime(2047));
  EXPECT_FALSE(IsPrime(3215031751));
  EXPECT_FALSE(IsPrime(341550071728321));
}

TEST(PrimesTest, NextPrimeIsAboveAndNothingLiesBetween) {
  EXPECT_EQ(NextPrimeAbove(0), 2u);
  EXPECT_EQ(NextPrimeAbove(2), 3u);
  EXPECT_EQ(NextPrimeAbove(15999999), 16000057u);
  EXPECT_EQ(NextPrimeAbove(16000057), 16000079u);
}

}  // namespace
}  // namespace engram
