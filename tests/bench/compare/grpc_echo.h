// The raw gRPC echo: what gRPC itself can carry of requests and replies as large as lookups'.
//
// ByteBuffers both ways; a request begins with the number of bytes wanted, little-endian, and the
// replies are slices of one static buffer, in messages of at most kEchoMessageBytes on a stream.
// Channel arguments, server settings, threads and the allocator are those of
// client/transport/grpc/grpc_transport.cc and server/engramd.cc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/bench/compare/contender.h"

namespace engram::bench {

inline constexpr char kEchoStream[] = "/engram.bench.Echo/Stream";
inline constexpr char kEchoUnary[] = "/engram.bench.Echo/Unary";
// A stream's message, and a unary reply: as engramd cuts them (server/base/limits.h).
inline constexpr uint64_t kEchoMessageBytes = 1 << 20;
inline constexpr uint64_t kEchoUnaryBytes = 4 << 20;

// Serves until the process is killed.
absl::Status ServeGrpcEcho(const std::vector<std::string>& addresses);
// With a stream a client, or unary calls.
std::unique_ptr<Contender> GrpcEcho(const std::string& address, bool unary);

}  // namespace engram::bench
