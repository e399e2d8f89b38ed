// TLS of a port that engramd listens on: its files, checked, and gRPC's credentials from them.
//
// Stateless, thread-safe.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "absl/status/status.h"
#include "server/security/options.h"

namespace engram {

// Whether a port can be served with them now: memstore/tls/pem.h has the errors.
absl::Status CheckTlsFiles(const TlsFiles& files);

// `files` are on() and held CheckTlsFiles. They are read again when they change (within seconds),
// and used for connections from then on; those that are open stay. A change that is not whole (a
// certificate without its key) is not used.
std::shared_ptr<grpc::ServerCredentials> MakeTlsCredentials(const TlsFiles& files);

}  // namespace engram
