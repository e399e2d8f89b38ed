// Opens the faster way to a store of a cluster: as auto: chooses it (client/transport/auto), among
// those that the store says it offers.
//
// Functions; OpenFaster blocks for some seconds at most, and as long as mapping tables takes.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cluster/faster_ways.h"
#include "client/transport/grpc/grpc_attachment.h"
#include "client/transport/security_options.h"
#include "client/transport/transport.h"
#include "memstore/cluster/store_state.h"

namespace engram {

// Which ways a client of a cluster may take; what AttachOptions::mode says.
struct FasterOptions {
  bool grpc_alone = false;   // nothing faster is to be opened
  bool rings_alone = false;  // of shared memory: no tables are mapped
  bool reads = false;        // over RDMA: the client reads rows by itself
  std::string device = {};   // RdmaOptions'
};

// `mode`: "" for the best way, "grpc", "ring", "write" or "read". INVALID_ARGUMENT: another.
absl::StatusOr<FasterOptions> ParseClusterMode(absl::string_view mode);

// `at`: the cluster's set at the store, over the store's own channel. `store`: what it says of
// itself. The socket of shared memory is asked of the store; what listens there on this machine is
// taken if it has the rows that the store says it has, for other hosts' stores name the same path.
FasterWay OpenFaster(const std::shared_ptr<const GrpcAttachment>& at, const StoreState& store,
                     const SecurityOptions& security, const FasterOptions& options);

// Whether what was attached to has at least the rows of the set that the store says it holds.
absl::Status CheckHoldsThoseOf(const AttachedTableSet& attached, const StoreState& store);

}  // namespace engram
