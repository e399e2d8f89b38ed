// Each promise broken once by a mistake of the simulated driver or store: the simulation finds it,
// by few seeds. Without this nobody would know that it can.

#include <string>

#include "gtest/gtest.h"
#include "tests/sim/simulation.h"

namespace engram::sim {
namespace {

constexpr uint64_t kMostSeeds = 10;

struct Planted {
  Bug bug;
  Invariant breaks;
  bool one_at_a_time = false;
};

class PlantedBugsTest : public ::testing::TestWithParam<Planted> {};

TEST_P(PlantedBugsTest, IsFound) {
  SimOptions options{.one_at_a_time = GetParam().one_at_a_time, .bug = GetParam().bug};
  if (options.one_at_a_time) options.faults = kSurvivedFaults;
  for (options.seed = 1; options.seed <= kMostSeeds; ++options.seed) {
    const Outcome outcome = Simulate(options);
    if (outcome.broken == Invariant::kNone) continue;
    EXPECT_EQ(outcome.broken, GetParam().breaks) << outcome.what;
    EXPECT_EQ(Simulate(options).what, outcome.what) << "it is found again by its seed";
    return;
  }
  FAIL() << NameOf(GetParam().bug) << " was not found by " << kMostSeeds << " seeds";
}

INSTANTIATE_TEST_SUITE_P(Each, PlantedBugsTest,
                         ::testing::Values(Planted{Bug::kCopiesUnasked, Invariant::kLanding},
                                           Planted{Bug::kDrainsTooSoon, Invariant::kLanding},
                                           Planted{Bug::kAnswersNewSet, Invariant::kOneSet},
                                           Planted{Bug::kTicksLate, Invariant::kDeadline},
                                           Planted{Bug::kSendsAgain, Invariant::kAttempts},
                                           Planted{Bug::kHedgesFreely, Invariant::kHedges},
                                           Planted{Bug::kForgetsReplies, Invariant::kGivenBack},
                                           Planted{Bug::kKeepsOldMap, Invariant::kSurvives,
                                                   /*one_at_a_time=*/true}),
                         [](const auto& planted) {
                           std::string name(NameOf(planted.param.bug));
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace engram::sim
