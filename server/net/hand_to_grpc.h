// Handing a connection that engramd accepted itself to a gRPC server.
#pragma once

#include <grpcpp/grpcpp.h>

#include "memstore/base/clock.h"
#include "server/net/connections.h"

namespace engram {

// `server` owns `fd`, which came by `listen_fd`, from here on; `connections` knows of it before.
void HandToGrpc(int listen_fd, int fd, MonotonicTime now, Connections& connections,
                grpc::experimental::ExternalConnectionAcceptor& server);

}  // namespace engram
