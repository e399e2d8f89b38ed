// Addresses of machines as a user writes them: HOST:PORT.
//
// Stateless, thread-safe. Nothing is looked up.
#pragma once

#include "absl/strings/string_view.h"

namespace engram {

// HOST:PORT with a port from 1 to 65535, and the host of an IPv6 address in brackets. A host is
// letters, digits and what else names and addresses hold: no blank, and nothing of a URL.
bool IsHostAndPort(absl::string_view text);

// What stands before the port of one that IsHostAndPort takes; brackets among it.
absl::string_view HostOf(absl::string_view host_and_port);

// Whether it leads to this machine and to no other, as written: 127.0.0.0/8, [::1], localhost.
bool IsLoopbackHost(absl::string_view host);

// Whether it says "any of this machine's", to which nobody can connect: 0.0.0.0, [::].
bool IsWildcardHost(absl::string_view host);

}  // namespace engram
