// TLS of a port that engramd listens on: its files, checked, and gRPC's credentials from them.
//
// Thread-safe.
#pragma once

#include <grpcpp/security/server_credentials.h>
#include <spdlog/logger.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/tls/pem_watch.h"
#include "server/security/options.h"

namespace engram {

// The files of a port while it is served. They are read again when they change (within seconds),
// checked, and used for connections from then on; those that are open stay. What cannot be used is
// logged, once for each reason, and what was read before is used as long.
class ServerTls {
 public:
  // `files` are on(). PemWatch::Open has the errors.
  static absl::StatusOr<std::unique_ptr<ServerTls>> Open(const TlsFiles& files,
                                                         std::shared_ptr<spdlog::logger> log);
  // Of a server that is built; they see changes as long as this lasts.
  std::shared_ptr<grpc::ServerCredentials> MakeCredentials() const;
  // PemWatch has what they are.
  double Expiry() const { return watch_->Expiry(); }
  absl::Status Refusal() const { return watch_->Refusal(); }
  // Says whether the files are used as they are now.
  void LogUse(spdlog::logger& log) const;

 private:
  ServerTls(const TlsFiles& files, std::unique_ptr<PemWatch> watch)
      : files_(files), watch_(std::move(watch)) {}

  const TlsFiles files_;
  const std::unique_ptr<PemWatch> watch_;
};

}  // namespace engram
