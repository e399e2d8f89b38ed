// Why no connection comes about, asked of the kernel once: gRPC tells it only while an attempt of
// its own has just failed; and whether what listens there is no gRPC server at all, which gRPC has
// no words for.
//
// Stateless, thread-safe. Blocks for at most the time it is given; asks no resolver.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace engram {

// The kernel's words for why nobody is connected with at `address` (HOST:PORT, unix:PATH); empty
// where somebody is, and where the host is a name.
std::string WhyNoConnection(const std::string& address, absl::Duration most);

// UNIMPLEMENTED where an HTTP/1 server answers at `address` (HOST:PORT, unix:PATH), as engramd's
// port for monitoring is one; it ends with "Give the address of `flag`". INVALID_ARGUMENT where the
// socket there is that of shared memory. OK: nobody answers in time, something else does, or the
// host is a name other than localhost.
absl::Status CheckNoOtherServer(const std::string& address, absl::string_view flag,
                                absl::Duration most);

}  // namespace engram
