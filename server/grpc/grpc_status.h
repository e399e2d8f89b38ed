// An absl::Status as gRPC sends it.
#pragma once

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"

namespace engram {

// Same code and message, no details; but RESOURCE_EXHAUSTED carries a google.rpc.RetryInfo, which
// says when to ask again. gRPC itself gives that code without one: for a message over its size
// limit, where asking again is of no use, and for lack of threads, where it is.
grpc::Status ToGrpc(const absl::Status& status);

}  // namespace engram
