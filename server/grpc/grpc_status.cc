#include "server/grpc/grpc_status.h"

#include <chrono>
#include <string>

#include "proto/google/rpc/retry.pb.h"
#include "server/base/limits.h"

namespace engram {
namespace {

std::string RetryDetails(const absl::Status& status) {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(std::chrono::nanoseconds(kRetryDelay).count()));
  google::rpc::Status details;
  details.set_code(static_cast<int>(status.code()));
  details.set_message(std::string(status.message()));
  details.add_details()->PackFrom(retry);
  return details.SerializeAsString();
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(
      static_cast<grpc::StatusCode>(status.code()), std::string(status.message()),
      status.code() == absl::StatusCode::kResourceExhausted ? RetryDetails(status) : std::string());
}

}  // namespace engram
