#include "memstore/addressing/numpy_random.h"

#include <vector>

#include "gtest/gtest.h"

namespace engram {
namespace {

// numpy.random.default_rng(0).integers(0, 46539438283891, 4) and so on, by way of the published
// multipliers 2 * r + 1.
TEST(NumpyRandomTest, DrawsWhatNumpyDraws) {
  NumpyRandom layer_1(10007 * 1);
  for (const uint64_t multiplier :
       {76632096046245u, 4839876093313u, 35959672319349u, 73987337458391u}) {
    EXPECT_EQ(2 * layer_1.Below(46539438283891) + 1, multiplier);
  }
  NumpyRandom layer_14(10007 * 14);
  for (const uint64_t multiplier :
       {67716810739261u, 51510806800915u, 30921347202721u, 82619226485591u}) {
    EXPECT_EQ(2 * layer_14.Below(46539438283891) + 1, multiplier);
  }
}

// numpy.random.PCG64(0xdeadbeaf).random_raw(3), seeded by SeedSequence (numpy 1.17 and later).
TEST(NumpyRandomTest, RawWords) {
  NumpyRandom random(0xdeadbeaf);
  EXPECT_EQ(random.Next(), 0x60d24054e17a0698u);
  EXPECT_EQ(random.Next(), 0xd5e79d89856e4f12u);
  EXPECT_EQ(random.Next(), 0xd254972fe64bd782u);
}

TEST(NumpyRandomTest, StaysBelowTheBoundWhereDrawsAreRejected) {
  // 2^64 mod bound is nearly the bound: half of all draws are rejected.
  constexpr uint64_t kBound = (uint64_t{1} << 63) + 1;
  NumpyRandom random(7);
  for (int i = 0; i < 1000; ++i) EXPECT_LT(random.Below(kBound), kBound);
}

}  // namespace
}  // namespace engram
