// A cluster in one thread: the real router and what it decides by, and everything around it
// simulated, by a seed.
//
// Stores, links, discovery and table sets go wrong as faults.h draws it; what has to hold whatever
// happens is checked at each event (checker.h). Two runs of the same options are the same, event by
// event.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "tests/sim/checker.h"
#include "tests/sim/figures.h"
#include "tests/sim/options.h"

namespace engram::sim {

struct Outcome {
  Invariant broken = Invariant::kNone;
  std::string what;  // what broke it, and when
  Figures figures;
  uint64_t digest = 0;  // of all events
};

// `progress` is called now and then, with the simulated seconds so far.
Outcome Simulate(const SimOptions& options,
                 const std::function<void(double seconds)>& progress = {});

}  // namespace engram::sim
