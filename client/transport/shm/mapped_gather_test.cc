#include "client/transport/shm/mapped_gather.h"

#include <sys/mman.h>

#include <vector>

#include "gtest/gtest.h"
#include "memstore/gather/gather_tuning.h"

namespace engram {
namespace {

constexpr double kCosts[] = {50, 80, 70, 60, 48, 41, 40, 44, 52};
constexpr uint32_t kFastest = 32;  // of rows of 256 bytes, by these costs
constexpr uint32_t kDefault = 12;

// Time passes between two looks alone. A measurement begins with three looks; a timing is two, and
// each round ends with one (gather_tuning_test.cc).
class ScriptedClock final : public Clock {
 public:
  MonotonicTime Now() const override {
    const int look = looks_++ - 3;
    if (look < 0) return now_;
    const size_t in_round = look % (2 * std::size(kCosts) + 1);
    if (in_round % 2 == 1) now_ += absl::Nanoseconds(1024 * kCosts[in_round / 2]);
    return now_;
  }
  bool WaitUntil(CondVar&, Mutex&, MonotonicTime) override { return false; }
  int looks() const { return looks_; }

 private:
  mutable int looks_ = 0;
  mutable MonotonicTime now_;
};

class CalibrateMappedTest : public ::testing::Test {
 protected:
  CalibrateMappedTest()
      : bytes_(mmap(nullptr, kLeastTableBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    EXPECT_NE(bytes_, MAP_FAILED);
  }
  ~CalibrateMappedTest() override { munmap(bytes_, kLeastTableBytes); }

  LoadedLayer Layer(uint32_t layer, uint32_t row_bytes, uint64_t bytes) const {
    return {layer, {static_cast<const std::byte*>(bytes_), bytes / row_bytes, row_bytes}};
  }
  static std::vector<uint32_t> AheadRows(const std::vector<LoadedLayer>& layers) {
    std::vector<uint32_t> ahead;
    for (const LoadedLayer& layer : layers) ahead.push_back(layer.table.ahead_rows);
    return ahead;
  }

  void* const bytes_;
};

TEST_F(CalibrateMappedTest, TheLargestTableOfAWidthIsMeasuredOnceForAll) {
  std::vector<LoadedLayer> layers = {Layer(1, 256, 1 << 20), Layer(2, 264, 1 << 20),
                                     Layer(3, 256, kLeastTableBytes),
                                     Layer(4, 256, kLeastTableBytes)};
  ScriptedClock clock;
  CalibrateMapped(absl::MakeSpan(layers), {}, clock);
  EXPECT_EQ(AheadRows(layers), (std::vector<uint32_t>{kFastest, kDefault, kFastest, kFastest}));
  ScriptedClock once;
  (void)CalibrateGather(layers[2].table, once);
  EXPECT_EQ(clock.looks(), once.looks());
}

TEST_F(CalibrateMappedTest, WhatCachesHoldIsNotMeasured) {
  std::vector<LoadedLayer> layers = {Layer(1, 256, 1 << 20), Layer(2, 264, kLeastTableBytes - 264)};
  ScriptedClock clock;
  CalibrateMapped(absl::MakeSpan(layers), {}, clock);
  EXPECT_EQ(AheadRows(layers), (std::vector<uint32_t>{kDefault, kDefault}));
  EXPECT_EQ(clock.looks(), 0);
}

}  // namespace
}  // namespace engram
