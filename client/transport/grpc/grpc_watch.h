// Watching over gRPC which table set a name leads to. Stateless and thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "client/transport/grpc/grpc_credentials.h"
#include "memstore/base/clock.h"
#include "memstore/table/manifest.h"

namespace engram {

// Transport::WaitSuperseded's contract, for the set that `manifest` describes. A watch that breaks
// (engramd was started again) is begun again; errors that time does not mend end it.
absl::Status WatchUntilSuperseded(const std::shared_ptr<grpc::Channel>& channel,
                                  const GrpcCredentials& credentials, const Manifest& manifest,
                                  std::stop_token stop, Clock& clock = RealClock());

}  // namespace engram
