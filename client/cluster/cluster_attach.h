// Attaching to a cluster: hears its stores, finds out which table set is meant, takes that set's
// manifest from one of them, and waits until each range of rows has a ready replica.
//
// A function; blocks for its time-out at most.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cluster/discovery/resolver.h"
#include "client/cluster/open_faster.h"
#include "client/transport/security_options.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"
#include "memstore/discovery/etcd_security.h"

namespace engram {

struct ClusterOptions {
  absl::Duration timeout = absl::Seconds(30);
  // Which ways to stores are taken beside gRPC (open_faster.h).
  FasterOptions faster = {};
  // Looking for a reply before sleeping, up to kMaxWaitSpin; over gRPC where one part alone is
  // under way.
  absl::Duration spin = absl::ZeroDuration();
  std::string zone = {};  // of this client; empty: no preference
  SecurityOptions security = {};
  EtcdSecurity etcd = {};       // as AttachOptions has it
  Clock* clock = &RealClock();  // outlives the transport
  Resolver resolver = SystemResolver();
};

// `place`: what follows "cluster:" of a target. `table_set`: as ChooseSet takes it. A
// ClusterTransport, over gRPC until faster ways are there. UNAVAILABLE: after the time-out there
// was no source of addresses, no store of the set, or no replica of some rows, which are named;
// what is wrong with addresses follows. NOT_FOUND, FAILED_PRECONDITION: ChooseSet's, the former
// only once every address was heard. Codes that no time mends (a certificate, an address that is no
// store's) where they are those of all addresses.
absl::StatusOr<std::unique_ptr<Transport>> AttachToCluster(const std::string& place,
                                                           const std::string& table_set,
                                                           const ClusterOptions& options);

}  // namespace engram
