// What one simulated run is given: its size, its seed, what goes wrong, and what is broken on
// purpose.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace engram::sim {

enum class FaultKind : uint8_t {
  kCrash,      // a store's process ends, with or without a word, and starts again
  kPause,      // SIGSTOP and SIGCONT
  kSlow,       // each lookup takes many times as long
  kLostLink,   // links to a store are dark; what was on them comes late, or they break
  kDiscovery,  // discovery answers nobody
  kRestart,    // announced: draining, then gone, then back
  kLeaseLoss,  // a client's words to a store (its lease) are dropped for a while
  kBurst,      // some workers ask for many times as much
  kLie,        // a store refuses what it says it holds
  kDamage,     // a store finds its rows damaged, until it starts again
};
inline constexpr uint32_t kFaultKinds = 10;
inline constexpr uint32_t kAllFaults = (1u << kFaultKinds) - 1;
constexpr uint32_t MaskOf(FaultKind kind) { return 1u << static_cast<uint32_t>(kind); }
// Of those, what no batch may fail of where a partition has two replicas and one goes wrong at a
// time. Damage is left out: a batch whose caller has been told of damaged rows fails. So are lies:
// what is refused is asked again out of the budget.
inline constexpr uint32_t kSurvivedFaults =
    kAllFaults & ~MaskOf(FaultKind::kDamage) & ~MaskOf(FaultKind::kLie);

// Mistakes of whoever drives the router, or of a store, each of which breaks one promise. They are
// in the simulation's own code: the product has no switch for them.
enum class Bug : uint8_t {
  kNone,
  kCopiesUnasked,   // rows are copied whatever MayLand says
  kDrainsTooSoon,   // a queue pair is called drained while writes are under way
  kAnswersNewSet,   // a store answers from the set that it publishes, not from the one asked for
  kTicksLate,       // Tick comes later than NextTick said
  kSendsAgain,      // what fails is sent again beside the router
  kHedgesFreely,    // parts are sent twice beside the router
  kForgetsReplies,  // the end of a cancelled attempt is not told
  kKeepsOldMap,     // no map after the first
};
inline constexpr uint32_t kBugs = 9;
absl::string_view NameOf(Bug bug);

struct SimOptions {
  uint64_t seed = 1;
  uint32_t stores = 8;
  uint32_t workers = 32;
  uint32_t seconds = 60;
  uint32_t partitions = 0;  // 0: drawn, so that each has two replicas at least
  double rate = 10;         // batches a second of a worker, on average
  uint32_t faults = kAllFaults;
  bool rolls_out = true;       // table sets are staged and flipped
  bool one_at_a_time = false;  // the next fault comes when the last one is over
  bool hedges = true;          // false: to see what they are worth
  bool by_device = true;       // some seeds' stores write rows themselves; else none does
  bool verbose = false;
  Bug bug = Bug::kNone;
};

}  // namespace engram::sim
