#include "client/transport/grpc/grpc_watch.h"

#include "client/transport/grpc/grpc_channel.h"
#include "memstore/base/status_macros.h"
#include "memstore/base/stoppable_sleep.h"
#include "proto/engram/v1/lookup.grpc.pb.h"

namespace engram {
namespace {

// Between a watch that broke and the next.
constexpr absl::Duration kAgain = absl::Milliseconds(200);

bool MayPass(grpc::StatusCode code) {
  return code == grpc::StatusCode::OK || code == grpc::StatusCode::UNAVAILABLE ||
         code == grpc::StatusCode::CANCELLED || code == grpc::StatusCode::RESOURCE_EXHAUSTED;
}

// Watches once: true when the name leads to another set, false when the watch may be begun again.
absl::StatusOr<bool> WatchOnce(v1::Lookup::Stub* stub, const GrpcCredentials& credentials,
                               const Manifest& manifest, const std::stop_token& stop) {
  grpc::ClientContext context;
  credentials.Apply(&context);
  const std::stop_callback cancel(stop, [&context] { context.TryCancel(); });
  v1::WatchRequest request;
  request.set_name(manifest.name);
  const auto reader = stub->Watch(&context, request);
  v1::WatchResponse response;
  while (reader->Read(&response)) {
    // A name that leads nowhere has no set to follow to.
    if (response.table_set_id().empty() || response.table_set_id() == manifest.id) continue;
    context.TryCancel();
    reader->Finish();
    return true;
  }
  const grpc::Status end = reader->Finish();
  if (MayPass(end.error_code())) return false;
  return FromGrpc(end, "its address");
}

}  // namespace

absl::Status WatchUntilSuperseded(const std::shared_ptr<grpc::Channel>& channel,
                                  const GrpcCredentials& credentials, const Manifest& manifest,
                                  std::stop_token stop, Clock& clock) {
  const std::unique_ptr<v1::Lookup::Stub> stub = v1::Lookup::NewStub(channel);
  while (!stop.stop_requested()) {
    ENGRAM_ASSIGN_OR_RETURN(const bool superseded,
                            WatchOnce(stub.get(), credentials, manifest, stop));
    if (superseded) return absl::OkStatus();
    SleepUnlessStopped(clock, kAgain, stop);
  }
  return absl::CancelledError("nobody follows the table set any more");
}

}  // namespace engram
