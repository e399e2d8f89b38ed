// The promise that losing one replica loses no lookup, held against real processes under load: some
// are killed, some are stopped, and every row of every batch is checked. `chaos` runs it for
// longer.
#include "tests/cluster/chaos.h"

#include <cstdio>

#include "gtest/gtest.h"

namespace engram::integration {
namespace {

void ExpectExact(const LoadResult& result) {
  EXPECT_GT(result.batches, 0u);
  EXPECT_EQ(result.failed, 0u) << result.first_failure;
  EXPECT_EQ(result.wrong, 0u) << result.first_failure;
}

void ExpectNothingLost(const ChaosOptions& options) {
  const ChaosReport report = RunChaos(options);
  std::fputs(report.Table().c_str(), stdout);
  ExpectExact(report.closed);
  ExpectExact(report.quiet);
  ExpectExact(report.faulty);
  EXPECT_GT(report.faults, 0u);
}

TEST(ChaosTest, KilledStoresLoseNoLookup) { ExpectNothingLost({.kind = FaultKind::kKill}); }

TEST(ChaosTest, StoppedStoresLoseNoLookup) {
  ExpectNothingLost(
      {.kind = FaultKind::kStop, .every = absl::Seconds(5), .lasts = absl::Seconds(2)});
}

}  // namespace
}  // namespace engram::integration
