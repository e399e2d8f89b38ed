#include "gpu/hash_on_device.h"

#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "memstore/addressing/ngram_hash.h"

namespace engram {
namespace {

TEST(HashOnDevice, EqualsTheHost) {
  if (const std::string reason = DeviceUnavailableReason(); !reason.empty()) {
    GTEST_SKIP() << reason;
  }
  constexpr uint32_t kOrder = 4;
  constexpr uint64_t kWindows = 1 << 20;
  // Layer 1 of DeepSeek-V4.1-Flash, its first column of order 4.
  const uint64_t multipliers[kOrder] = {76632096046245, 4839876093313, 35959672319349,
                                        73987337458391};
  const Reciprocal reciprocal = MakeReciprocal(16000313);
  std::mt19937 random(7);
  std::vector<uint32_t> windows(kWindows * kOrder);
  for (uint32_t& id : windows) id = random() % 99092;
  std::vector<uint64_t> rows(kWindows);
  ASSERT_EQ(HashOnDevice(windows.data(), kWindows, kOrder, multipliers, reciprocal.modulus, 1000,
                         rows.data()),
            "");
  for (uint64_t i = 0; i < kWindows; ++i) {
    ASSERT_EQ(rows[i],
              XorMix(&windows[i * kOrder], multipliers, kOrder) % reciprocal.modulus + 1000)
        << "window " << i;
  }
}

}  // namespace
}  // namespace engram
