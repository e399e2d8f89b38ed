// Why no connection comes about, asked of the kernel once: gRPC tells it only while an attempt of
// its own has just failed.
//
// Stateless, thread-safe. Blocks for at most the time it is given; asks no resolver.
#pragma once

#include <string>

#include "absl/time/time.h"

namespace engram {

// The kernel's words for why nobody is connected with at `address` (HOST:PORT, unix:PATH); empty
// where somebody is, and where the host is a name.
std::string WhyNoConnection(const std::string& address, absl::Duration most);

}  // namespace engram
