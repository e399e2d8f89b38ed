// What a client's gRPC channels and calls carry of SecurityOptions.
//
// Thread-safe. A call costs a look at the clock where there is a token, and once a second the
// file's.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/transport/security_options.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/tls/pem_watch.h"

namespace engram {

class GrpcCredentials {
 public:
  // `address`: HOST:PORT or unix:PATH, which speaks no TLS. INVALID_ARGUMENT (the system's code for
  // a file that can't be read): options or files that cannot be used, each named; UNAUTHENTICATED:
  // a certificate that has expired. `clock`, by which the token's file is read again, outlives
  // them.
  static absl::StatusOr<std::shared_ptr<const GrpcCredentials>> Create(
      const SecurityOptions& options, const std::string& address, const Clock& clock = RealClock());

  bool tls() const { return options_.tls(); }
  // Whether it shows engramd a certificate of its own.
  bool shows_certificate() const { return !options_.tls_cert.empty(); }
  // Of a new channel.
  const std::shared_ptr<grpc::ChannelCredentials>& channel() const { return channel_; }
  const std::string& server_name() const { return options_.tls_server_name; }
  // Why TLS files are not used as they are now (those read before are); OK when they are.
  absl::Status Refusal() const;
  // Before each call is started.
  void Apply(grpc::ClientContext* context) const;

 private:
  GrpcCredentials(const SecurityOptions& options, const Clock& clock)
      : clock_(clock), options_(options) {}
  // What a call carries for a token.
  std::string Bearer() const;

  const Clock& clock_;
  SecurityOptions options_;
  std::unique_ptr<PemWatch> watch_;  // null without TLS
  std::shared_ptr<grpc::ChannelCredentials> channel_;
  mutable Mutex mutex_;
  mutable std::string bearer_ ABSL_GUARDED_BY(mutex_);  // "Bearer TOKEN"
  mutable MonotonicTime next_look_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
