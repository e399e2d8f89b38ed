#include "memstore/pack/interleave.h"

#include <vector>

#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(InterleaveTest, JoinsRowByRow) {
  for (const auto& [weight_bytes, scale_bytes] :
       {std::pair{256u, 8u}, std::pair{64u, 2u}, std::pair{5u, 3u}, std::pair{8u, 256u}}) {
    constexpr size_t kRows = 7;
    std::vector<std::byte> weights(kRows * weight_bytes), scales(kRows * scale_bytes);
    for (size_t i = 0; i < weights.size(); ++i) weights[i] = std::byte(i * 7 + i / 256);
    for (size_t i = 0; i < scales.size(); ++i) scales[i] = std::byte(i * 13 + 1);
    std::vector<std::byte> want;
    for (size_t row = 0; row < kRows; ++row) {
      const auto w = weights.begin() + row * weight_bytes, s = scales.begin() + row * scale_bytes;
      want.insert(want.end(), w, w + weight_bytes);
      want.insert(want.end(), s, s + scale_bytes);
    }
    std::vector<std::byte> out(want.size());
    InterleaveRows(weights, weight_bytes, scales, scale_bytes, absl::MakeSpan(out));
    EXPECT_EQ(out, want) << weight_bytes;
  }
}

}  // namespace
}  // namespace engram
