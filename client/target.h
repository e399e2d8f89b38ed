// Where rows are, as a user writes it: embedded:DIR, grpc:HOST:PORT, grpc:unix:PATH, shm:SOCKET,
// rdma:HOST:PORT, auto:HOST:PORT, auto:unix:PATH; and, of several stores that have the rows
// together, cluster:HOST:PORT,unix:PATH,..., cluster:dns:NAME:PORT,
// cluster:etcd:HOST:PORT[,...]/PREFIX.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

struct Target {
  enum class Kind { kEmbedded, kGrpc, kShm, kRdma, kAuto, kCluster };
  Kind kind = Kind::kEmbedded;
  std::string place;  // a directory, HOST:PORT or unix:PATH, a socket's path; what
                      // follows "cluster:"
};

// INVALID_ARGUMENT names the text and the forms there are.
absl::StatusOr<Target> ParseTarget(absl::string_view text);

}  // namespace engram
