#include "client/transport/grpc/grpc_watch.h"

#include <condition_variable>
#include <mutex>

#include "client/transport/grpc/grpc_attach.h"
#include "proto/engram/v1/lookup.grpc.pb.h"

namespace engram {
namespace {

// Between a watch that broke and the next.
constexpr std::chrono::milliseconds kAgain{200};

bool MayPass(grpc::StatusCode code) {
  return code == grpc::StatusCode::OK || code == grpc::StatusCode::UNAVAILABLE ||
         code == grpc::StatusCode::CANCELLED || code == grpc::StatusCode::RESOURCE_EXHAUSTED;
}

}  // namespace

absl::Status WatchUntilSuperseded(const std::shared_ptr<grpc::Channel>& channel,
                                  const GrpcCredentials& credentials, const Manifest& manifest,
                                  std::stop_token stop) {
  const std::unique_ptr<v1::Lookup::Stub> stub = v1::Lookup::NewStub(channel);
  v1::WatchRequest request;
  request.set_name(manifest.name);
  while (!stop.stop_requested()) {
    grpc::ClientContext context;
    credentials.Apply(&context);
    const std::stop_callback cancel(stop, [&context] { context.TryCancel(); });
    const auto reader = stub->Watch(&context, request);
    v1::WatchResponse response;
    while (reader->Read(&response)) {
      // A name that leads nowhere has no set to follow to.
      if (response.table_set_id().empty() || response.table_set_id() == manifest.id) continue;
      context.TryCancel();
      reader->Finish();
      return absl::OkStatus();
    }
    const grpc::Status end = reader->Finish();
    if (!MayPass(end.error_code())) return FromGrpc(end, "its address");
    std::mutex mutex;
    std::condition_variable_any again;
    std::unique_lock<std::mutex> lock(mutex);
    again.wait_for(lock, stop, kAgain, [] { return false; });
  }
  return absl::CancelledError("nobody follows the table set any more");
}

}  // namespace engram
