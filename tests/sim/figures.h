// What a run, or many, came to.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "memstore/base/power_of_two_histogram.h"
#include "memstore/cluster/router_types.h"

namespace engram::sim {

// Of simulated latencies, in microseconds: eight steps a doubling.
class LatencyCounts {
 public:
  void Add(int64_t microseconds);
  void Add(const LatencyCounts& other);
  // The end of the step in which that share of them lies; 0 of none.
  int64_t Quantile(double share) const;

 private:
  static constexpr uint32_t kSteps = 8;
  std::array<uint64_t, 32 * kSteps> counts_{};
};

struct Figures {
  uint64_t events = 0;
  uint64_t batches = 0;  // submitted
  uint64_t landed = 0;
  std::array<uint64_t, kStatusCodes> failed{};
  uint64_t held_back = 0;  // not submitted: the router had no room, or the worker no set
  // By what was sent, not by what the router says it sent.
  uint64_t first_attempts = 0;
  uint64_t resends = 0;
  uint64_t free_resends = 0;
  uint64_t hedges = 0;
  std::array<uint64_t, kResendReasons> resends_by_reason{};  // the router's
  std::array<uint64_t, kResendReasons> refused_by_reason{};
  uint64_t hedges_won = 0;
  uint64_t drains = 0;
  uint64_t ejections = 0;
  uint64_t fences = 0;
  uint64_t maps = 0;
  uint64_t faults = 0;
  uint64_t rollouts = 0;
  uint64_t turned_away = 0;  // by a store, for want of a place, a slab or bytes of ids
  LatencyCounts latency;     // of batches that landed

  uint64_t FailedInAll() const;
  void Add(const Figures& other);
  void Add(const RouterCounters& counters);
  // A table of lines, each "name value".
  std::string Table(double wall_seconds) const;
};

}  // namespace engram::sim
