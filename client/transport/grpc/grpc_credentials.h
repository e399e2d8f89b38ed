// What a client's gRPC channels and calls carry of SecurityOptions.
//
// Thread-safe. A call costs a look at the clock where there is a token, and once a second the
// file's.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/security/credentials.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/transport/security_options.h"
#include "memstore/tls/pem_watch.h"

namespace engram {

class GrpcCredentials {
 public:
  // `address`: HOST:PORT or unix:PATH, which speaks no TLS. INVALID_ARGUMENT (the system's code for
  // a file that can't be read): options or files that cannot be used, each named; UNAUTHENTICATED:
  // a certificate that has expired.
  static absl::StatusOr<std::shared_ptr<const GrpcCredentials>> Create(
      const SecurityOptions& options, const std::string& address);

  bool tls() const { return options_.tls(); }
  // Of a new channel.
  const std::shared_ptr<grpc::ChannelCredentials>& channel() const { return channel_; }
  const std::string& server_name() const { return options_.tls_server_name; }
  // Why TLS files are not used as they are now (those read before are); OK when they are.
  absl::Status Refusal() const;
  // Before each call is started.
  void Apply(grpc::ClientContext* context) const;

 private:
  explicit GrpcCredentials(const SecurityOptions& options) : options_(options) {}

  SecurityOptions options_;
  std::unique_ptr<PemWatch> watch_;  // null without TLS
  std::shared_ptr<grpc::ChannelCredentials> channel_;
  mutable std::mutex mutex_;
  mutable std::string bearer_;                               // guarded by mutex_; "Bearer TOKEN"
  mutable std::chrono::steady_clock::time_point next_look_;  // guarded by mutex_
};

}  // namespace engram
