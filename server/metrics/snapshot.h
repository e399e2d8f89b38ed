// What an engramd is at, for metrics, readiness and the status page. Values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/store/scrubber.h"
#include "server/base/life_cycle.h"
#include "server/metrics/admin_refusals.h"
#include "server/metrics/attach_refusals.h"
#include "server/metrics/numa_census.h"
#include "server/metrics/process_stats.h"
#include "server/table_sets/table_set_manager.h"

namespace engram {

// Connections that were ended for what their clients sent, since it started.
struct ConnectionsEnded {
  uint64_t long_header_block = 0;
  uint64_t idle_frames = 0;
  uint64_t memory = 0;
  uint64_t unread = 0;
};

// The sets that it loads before it serves, where they are several.
struct StartLoads {
  size_t sets = 0;
  size_t number = 0;            // of the one under way, from 1
  uint64_t bytes_before = 0;    // of rows, of those that are loaded
  uint64_t bytes_total = 0;     // of all, as their manifests have it
  MonotonicTime since = {};     // when the first began
  absl::Duration elapsed = {};  // since then
};

// In etcd, so that clients find it.
struct RegistrationSnapshot {
  bool registered = false;
  uint64_t failures = 0;  // calls of etcd's that failed, and leases that were lost
};

struct ServerSnapshot {
  LifeState state = LifeState::kLoading;
  double start_time = 0;  // seconds since 1970, by the wall clock as it was then
  absl::Duration uptime;
  std::vector<TableSetStatus> table_sets;
  std::optional<TableSetLoad> loading;
  std::optional<StartLoads> start_loads;  // while it loads several
  ScrubProgress scrub;
  uint64_t scrub_bytes_per_s = 0;  // as configured; 0: it is off
  uint32_t shm_clients = 0;
  uint32_t rdma_clients = 0;
  uint32_t grpc_streams = 0;
  AttachRefusals::Counts attach_refusals{};
  AdminRefusals::Counts admin_refusals = {};
  ConnectionsEnded connections_ended;
  std::optional<RegistrationSnapshot> registration;  // none: it does not register
  std::string partition = "all";  // of every set that it holds: "1/4", "columns" (some), "all"
  // What follows is for those who look at all of it (Engramd::SnapshotWithPages), and nothing in
  // what probes are answered from.
  std::string host;                    // the machine's name
  std::vector<std::string> addresses;  // of lookups, as bound; nothing before it serves
  std::vector<RecentRefusal> recent_refusals;
  ProcessStats process;
  BytesByNode numa_bytes;
  std::optional<double> certificate_expiry;  // seconds since 1970
  // Whether TLS files, or the token file, cannot be used as they are now, so that what was read
  // before stays in use. Nothing where there are none.
  std::optional<bool> tls_refused;
  std::optional<bool> tokens_refused;

  // Empty: lookups are served; else why not, in a line. A fenced set is a reason for as long as it
  // is missed.
  std::string WhyNotReady() const;
};

}  // namespace engram
