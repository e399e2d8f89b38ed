// The end of a gRPC server whose connections engramd accepted itself.
//
// Stateless; one call for a server, after the last connection was handed to it.
#pragma once

#include <grpcpp/grpcpp.h>

#include "memstore/base/clock.h"
#include "server/net/connections.h"

namespace engram {

// Ends every call and connection of `server` and returns when none is left, within a second or so
// whatever peers do: gRPC waits for each connection, idle clients may not look at theirs for
// seconds, and one that takes nothing (it was stopped) keeps gRPC from closing its own. After
// a moment for clients to close by themselves, calls are cancelled, then `connections` ended under
// gRPC.
void ShutDownServer(grpc::Server& server, Connections& connections, Clock& clock);

}  // namespace engram
