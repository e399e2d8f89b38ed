// Looking a name up: a function, so that tests have names of their own.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace engram {

// The numeric addresses of `name`, IPv4 and IPv6, as HOST:PORT with brackets around the latter;
// ascending, each once, one at least. NOT_FOUND: the name has none; UNAVAILABLE: nobody who would
// know answers. Blocks. Called by any thread.
using Resolver = std::function<absl::StatusOr<std::vector<std::string>>(const std::string& name,
                                                                        const std::string& port)>;

// By the system's: /etc/hosts, then DNS, as it is configured.
Resolver SystemResolver();

}  // namespace engram
