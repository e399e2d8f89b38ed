#include "memstore/addressing/numpy_random.h"

#include <vector>

#include "gtest/gtest.h"

namespace engram {
namespace {

// numpy.random.default_rng(10007 * layer).integers(0, 46539438283891, 4), by way of the published
// multipliers 2 * r + 1.
TEST(NumpyRandomTest, DrawsWhatNumpyDraws) {
  NumpyRandom layer_1(10007);
  for (const uint64_t multiplier :
       {76632096046245u, 4839876093313u, 35959672319349u, 73987337458391u}) {
    EXPECT_EQ(2 * layer_1.Below(46539438283891) + 1, multiplier);
  }
  NumpyRandom layer_14(140098);
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

// 2^64 mod bound is nearly the bound: half of all words are rejected.
TEST(NumpyRandomTest, WordsThatWouldFavourSomeResultsAreRejected) {
  constexpr uint64_t kBound = (uint64_t{1} << 63) + 1;
  constexpr uint64_t kRejectedBelow = (uint64_t{1} << 63) - 1;
  NumpyRandom random(7), words(7);
  int rejected = 0;
  for (int i = 0; i < 1000; ++i) {
    unsigned __int128 product = 0;
    for (;; ++rejected) {
      product = static_cast<unsigned __int128>(words.Next()) * kBound;
      if (static_cast<uint64_t>(product) >= kRejectedBelow) break;
    }
    EXPECT_EQ(random.Below(kBound), static_cast<uint64_t>(product >> 64));
  }
  EXPECT_GT(rejected, 500);
}

}  // namespace
}  // namespace engram
