#include "server/grpc/grpc_status.h"

#include <chrono>
#include <string>

#include "memstore/base/message_line.h"
#include "proto/google/rpc/retry.pb.h"
#include "server/base/limits.h"

namespace engram {
namespace {

// A message travels in headers, of which clients take 8 KiB: a byte of it can take three there, and
// the details repeat it. What is longer (somebody's path of 5,000 bytes) would lose it all.
constexpr size_t kMaxMessageBytes = 1500;

std::string RetryDetails(const absl::Status& status, const std::string& message) {
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(std::chrono::nanoseconds(kRetryDelay).count()));
  google::rpc::Status details;
  details.set_code(static_cast<int>(status.code()));
  details.set_message(message);
  details.add_details()->PackFrom(retry);
  return details.SerializeAsString();
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message = ShortenMessage(status.message(), kMaxMessageBytes);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message,
                      status.code() == absl::StatusCode::kResourceExhausted
                          ? RetryDetails(status, message)
                          : std::string());
}

}  // namespace engram
