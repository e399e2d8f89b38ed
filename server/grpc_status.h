// An absl::Status as gRPC sends it.
#pragma once

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"

namespace engram {

// Same code and message. RESOURCE_EXHAUSTED carries a google.rpc.RetryInfo: a client may ask again,
// unlike after the same code from gRPC itself (a message over its size limit).
grpc::Status ToGrpc(const absl::Status& status);

}  // namespace engram
