// What all of a simulated cluster share: time, what is to happen, random numbers, and each other.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "absl/time/time.h"
#include "memstore/addressing/scheme.h"
#include "memstore/base/clock.h"
#include "memstore/base/testing/fake_clock.h"
#include "tests/sim/checker.h"
#include "tests/sim/draws.h"
#include "tests/sim/events.h"
#include "tests/sim/figures.h"
#include "tests/sim/flight.h"
#include "tests/sim/maps.h"
#include "tests/sim/options.h"

namespace engram::sim {

class FakeStore;
class Worker;

struct World {
  explicit World(const SimOptions& options);
  ~World();

  // One way over a link that is as it should be: most take what a switch takes, one of two hundred
  // waits in a queue, and one of ten thousand was lost and is sent again after TCP's least time.
  absl::Duration Latency();
  void AddFlight(MonotonicTime at, EventKind kind, uint32_t flight) {
    ++flights[flight].events;
    events.Add(at, kind, flight);
  }
  void Log(absl::string_view text) const;
  bool Has(Bug bug) const { return options.bug == bug; }

  const SimOptions options;
  const AddressScheme scheme;
  FakeClock clock;
  MonotonicTime now;  // the clock's, read once an event
  const MonotonicTime start, end;
  EventQueue events;
  Draws draws;
  std::mt19937_64 router_random;
  uint32_t partitions = 1;
  double device_share = 0;  // of the stores: they write rows themselves
  FlightPool flights;
  Views views;
  Checker checker;
  Figures figures;
  uint64_t words = 0;  // that stores said
  bool discovery_up = true;
  std::vector<uint8_t> registered;  // by store
  std::vector<std::unique_ptr<FakeStore>> stores;
  std::vector<std::unique_ptr<Worker>> workers;
};

}  // namespace engram::sim
