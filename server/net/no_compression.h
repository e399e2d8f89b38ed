// A server that takes messages as they are. gRPC 1.51 makes as much of a compressed one as comes of
// it: of 3.5 MB 3.7 GB, whatever message size it was told to take, for whoever reaches the port.
// Rows and ids do not compress, so nobody loses by it; a call that says that its messages are
// compressed ends with UNIMPLEMENTED.
#pragma once

#include <grpcpp/grpcpp.h>

namespace engram {

void TakeNoCompression(grpc::ServerBuilder& builder);

}  // namespace engram
