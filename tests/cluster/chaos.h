// A cluster of real stores under an open loop of batches, first left alone and then with stores
// that are killed or stopped at random: what fails of it (nothing may), and how long batches take.
//
// Everything goes over Unix sockets on this machine, and nothing looks for events before it sleeps
// (spin 0), so that stores and client share few cores. The load is a share of what the same cluster
// gives in a closed loop, measured first.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "memstore/cluster/router_types.h"
#include "tests/cluster/checked_load.h"
#include "tests/cluster/faulty_stores.h"

namespace engram::integration {

struct ChaosOptions {
  FaultKind kind = FaultKind::kKill;
  absl::Duration every = absl::Seconds(3);  // a fault
  absl::Duration lasts = absl::Seconds(5);  // each
  uint32_t partitions = 4;
  uint32_t replicas = 2;
  uint32_t batch_tokens = 64;
  uint64_t rows_per_head = 2000;
  absl::Duration capacity_time = absl::Seconds(3);
  absl::Duration quiet_time = absl::Seconds(12);
  absl::Duration faulty_time = absl::Seconds(30);
  absl::Duration deadline = absl::Milliseconds(500);
  double share = 0.3;  // of the capacity
  double rate = 0;     // batches a second; 0: the share
  uint64_t seed = 1;
  bool says_each = false;  // fault, on standard error
};

struct ChaosReport {
  double capacity = 0;  // batches a second
  double rate = 0;      // of the load
  LoadResult closed, quiet, faulty;
  uint64_t faults = 0;
  // Of the time with faults.
  RouterCounters before, after;

  double RatioAt(double share) const;  // of faulty to quiet
  std::string Table() const;
};

ChaosReport RunChaos(const ChaosOptions& options);

}  // namespace engram::integration
