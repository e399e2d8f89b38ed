// A deadline of a Clock's, as gRPC's calls and queues take it.
//
// Stateless. gRPC is given what the clock says is left, since it knows no other time than its own.
// Cost: two looks at a clock.
#pragma once

#include "memstore/base/clock.h"
#include "proto/rpc/grpc_time.h"

namespace engram {

inline gpr_timespec GrpcDeadline(MonotonicTime deadline, const Clock& clock) {
  return rpc::After(absl::ToChronoNanoseconds(deadline - clock.Now()));
}

}  // namespace engram
