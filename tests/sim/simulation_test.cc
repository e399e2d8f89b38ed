// Two hundred clusters in which all goes wrong, some in which one thing does at a time, and that a
// seed says all.

#include "tests/sim/simulation.h"

#include <cstdio>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "tests/sim/progress.h"

namespace engram::sim {
namespace {

Figures RunSeeds(SimOptions options, uint64_t seeds) {
  Figures all;
  Progress progress;
  const uint64_t first = options.seed;
  for (uint64_t done = 0; done < seeds; ++done) {
    options.seed = first + done;
    const Outcome outcome = Simulate(
        options, [&](double seconds) { progress.Show(done, seeds, seconds, options.seconds); });
    EXPECT_EQ(outcome.broken, Invariant::kNone) << outcome.what;
    all.Add(outcome.figures);
  }
  absl::PrintF("%d seeds, %d stores, %d workers, %d s each: %.1f s\n%s", seeds, options.stores,
               options.workers, options.seconds, progress.Took(), all.Table(progress.Took()));
  return all;
}

TEST(SimulationTest, TwoHundredSeedsKeepThePromises) {
  const Figures all = RunSeeds({}, 200);
  // What is not met is not tested.
  EXPECT_GT(all.landed, all.batches * 9 / 10);
  EXPECT_GT(all.hedges_won, 0);
  EXPECT_GT(all.drains, 0);
  EXPECT_GT(all.fences, 0);
  EXPECT_GT(all.turned_away, 0);
  EXPECT_GT(all.free_resends, 0);
  EXPECT_GT(all.rollouts, 200);
  for (size_t reason = 1; reason < kResendReasons; ++reason) {
    EXPECT_GT(all.resends_by_reason[reason] + all.refused_by_reason[reason], 0) << reason;
  }
}

TEST(SimulationTest, OneFaultAtATimeFailsNoBatch) {
  const Figures all = RunSeeds({.faults = kSurvivedFaults, .one_at_a_time = true}, 30);
  const auto cancelled = static_cast<size_t>(absl::StatusCode::kCancelled);
  EXPECT_EQ(all.FailedInAll(), all.failed[cancelled]);
  EXPECT_GT(all.faults, 200);
}

// Loaded harder, with two replicas and no third one: a part has nowhere else to go.
TEST(SimulationTest, OneFaultAtATimeFailsNoBatchOfTwoReplicas) {
  SimOptions options{.seed = 1000, .stores = 4, .workers = 16, .partitions = 2, .rate = 30};
  options.faults = kSurvivedFaults;
  options.one_at_a_time = true;
  RunSeeds(options, 30);
}

TEST(SimulationTest, TheSameSeedIsTheSameRun) {
  const SimOptions options{.seed = 3, .seconds = 20};
  const Outcome first = Simulate(options), second = Simulate(options);
  EXPECT_EQ(first.digest, second.digest);
  EXPECT_EQ(first.figures.events, second.figures.events);
  EXPECT_NE(first.digest, Simulate({.seed = 4, .seconds = 20}).digest);
}

}  // namespace
}  // namespace engram::sim
