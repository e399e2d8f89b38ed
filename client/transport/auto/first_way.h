// Opens the first way to an engramd that is better than gRPC, in the order of auto_choice.h.
//
// A function; blocks for the times given, and as long as mapping tables takes.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/transport/auto/auto_choice.h"
#include "client/transport/grpc/grpc_attachment.h"
#include "client/transport/rdma/rdma_transport.h"
#include "client/transport/transport.h"

namespace engram {

struct FirstWayOptions {
  std::string shm_mode = {};  // ShmTransport::Attach's
  RdmaOptions rdma = {};      // its time-out is cut to a few seconds
  // What else is asked of a way that was opened: its error is why there is none. Null: nothing.
  std::function<absl::Status(const Transport&)> fits = nullptr;
};

struct FirstWay {
  AutoWay way = AutoWay::kGrpc;
  std::unique_ptr<Transport> transport = nullptr;  // null: there is none but gRPC
  std::string why = {};                            // not a better one; empty for the best
  AutoFindings findings = {};                      // what was found out on the way
};

// `findings`: what is known already; what it has a status of is not tried. Where a socket is named
// it is looked for.
FirstWay OpenFirstWay(const std::shared_ptr<const GrpcAttachment>& attachment,
                      AutoFindings findings, const FirstWayOptions& options);

}  // namespace engram
