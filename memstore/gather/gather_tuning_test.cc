#include "memstore/gather/gather_tuning.h"

#include <sys/mman.h>

#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "memstore/gather/gather_kernels.h"

namespace engram {
namespace {

using Source = GatherCalibration::Source;

TEST(ChooseAheadTest, KeepsTheDefaultUnlessAnotherIsClearlyBetter) {
  EXPECT_EQ(ChooseAhead({{12, 50.0}}).rows, 12u);
  EXPECT_EQ(ChooseAhead({{12, 50.0}, {8, 48.0}, {32, 47.6}}).rows, 12u);
  EXPECT_EQ(ChooseAhead({{12, 50.0}, {8, 60.0}, {32, 47.0}}).rows, 32u);
  // A clock that stands still, or a round that never ended.
  EXPECT_EQ(ChooseAhead({{12, 0.0}, {8, 0.0}}).rows, 12u);
  const double never = std::numeric_limits<double>::infinity();
  EXPECT_EQ(ChooseAhead({{12, never}, {8, never}}).rows, 12u);
}

TEST(ChooseAheadTest, TakesTheNearestOfThoseThatAreAboutAsGood) {
  EXPECT_EQ(ChooseAhead({{12, 50.0}, {64, 40.0}, {48, 40.5}, {32, 40.7}, {24, 42.0}}).rows, 32u);
  EXPECT_EQ(ChooseAhead({{12, 50.0}, {4, 40.0}, {64, 39.9}}).rows, 4u);
}

// A table that is large enough to be measured, of memory that nobody wrote to: one page of zeros.
class CalibrateGatherTest : public ::testing::Test {
 protected:
  CalibrateGatherTest()
      : bytes_(mmap(nullptr, kLeastTableBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    EXPECT_NE(bytes_, MAP_FAILED);
  }
  ~CalibrateGatherTest() override { munmap(bytes_, kLeastTableBytes); }

  // Of all but its last bytes, where they make no row, it is kLeastTableBytes.
  GatherTable Table(uint32_t row_bytes) const {
    return {static_cast<const std::byte*>(bytes_), kLeastTableBytes / row_bytes, row_bytes};
  }

  void* const bytes_;
};

// Time passes between two looks alone, and as much as the script says: a timing is two looks, and
// each round ends with one.
class ScriptedClock final : public Clock {
 public:
  // ns a row of each distance in its turn, round after round; `setup` looks come before them.
  ScriptedClock(int setup, std::vector<double> costs) : setup_(setup), costs_(std::move(costs)) {}

  MonotonicTime Now() const override {
    const int look = looks_++ - setup_;
    if (look < 0) return now_;
    const size_t in_round = look % (2 * costs_.size() + 1);
    if (in_round % 2 == 1) now_ += absl::Nanoseconds(1024 * costs_[in_round / 2]);
    return now_;
  }
  bool WaitUntil(CondVar&, Mutex&, MonotonicTime) override { return false; }

 private:
  const int setup_;
  const std::vector<double> costs_;
  mutable int looks_ = 0;
  mutable MonotonicTime now_;
};
constexpr int kSetupLooks = 3;  // a timing to warm up, the limit

TEST_F(CalibrateGatherTest, TakesTheDistanceThatIsFastest) {
  const GatherTable table = Table(256);
  ASSERT_EQ(gather_internal::PrefetchDistance(256), 12u);
  //                             default 12,  4,  6,  8, 16, 24, 32, 48, 64
  const ScriptedClock clock(kSetupLooks, {50, 80, 70, 60, 48, 41, 40, 44, 52});
  const GatherCalibration found = CalibrateGather(table, clock);
  EXPECT_EQ(found.ahead_rows, 32u);
  EXPECT_EQ(found.source, Source::kMeasured);
  EXPECT_EQ(found.standard.rows, 12u);
  EXPECT_DOUBLE_EQ(found.standard.ns_a_row, 50);
  EXPECT_DOUBLE_EQ(found.chosen.ns_a_row, 40);
  EXPECT_EQ(found.ToString(),
            "32 rows ahead, measured: 40.0 ns a row, 50.0 with the default of 12");
}

TEST_F(CalibrateGatherTest, EndsInTimeWithWhatWholeRoundsSaid) {
  // 9 distances of 1024 rows take 27 ms a round: the second one is beyond the limit.
  const ScriptedClock slow(kSetupLooks, {3000, 3000, 3000, 3000, 3000, 3000, 2000, 3000, 3000});
  const GatherCalibration found = CalibrateGather(Table(256), slow);
  EXPECT_EQ(found.ahead_rows, 32u);
  EXPECT_DOUBLE_EQ(found.chosen.ns_a_row, 2000);
}

TEST_F(CalibrateGatherTest, AClockThatStandsMeansTheDefault) {
  const GatherCalibration found = CalibrateGather(Table(256), FakeClock());
  EXPECT_EQ(found.ahead_rows, 12u);
  EXPECT_EQ(found.ToString(), "12 rows ahead, measured: 0.0 ns a row");
}

TEST_F(CalibrateGatherTest, SmallTablesAreNotMeasured) {
  GatherTable table = Table(264);  // not a whole number of rows, so it is a little below the least
  const GatherCalibration found = CalibrateGather(table, RealClock());
  EXPECT_EQ(found.source, Source::kDefault);
  EXPECT_EQ(found.ahead_rows, gather_internal::PrefetchDistance(264));
  EXPECT_EQ(found.ToString(), "12 rows ahead, the default");
  table.rows = 0;
  EXPECT_EQ(CalibrateGather(table, RealClock()).source, Source::kDefault);
}

TEST_F(CalibrateGatherTest, EveryWidthHasADistanceThatFitsTheCache) {
  for (const uint32_t row_bytes : {8u, 64u, 128u, 512u, 1024u, 4096u}) {
    SCOPED_TRACE(row_bytes);
    GatherTable table = Table(row_bytes);
    table.first_row = 1000;
    const GatherCalibration found = CalibrateGather(table, RealClock());
    EXPECT_EQ(found.source, Source::kMeasured);
    EXPECT_GE(found.ahead_rows, 1u);
    EXPECT_LE(found.ahead_rows, kMostAheadRows);
    EXPECT_TRUE(found.ahead_rows == found.standard.rows ||
                found.ahead_rows * row_bytes <= 20 << 10);
  }
}

TEST_F(CalibrateGatherTest, AGivenDistanceIsTaken) {
  const GatherCalibration given = GivenAhead(Table(256), 40);
  EXPECT_EQ(given.ahead_rows, 40u);
  EXPECT_EQ(given.ToString(), "40 rows ahead, as given");
}

}  // namespace
}  // namespace engram
