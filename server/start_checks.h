// What can be said of a configuration before the minutes that loading its tables takes.
//
// Reads manifests, and touches the addresses; stateless.
#pragma once

#include "absl/status/status.h"
#include "server/config/config.h"

namespace engram {

// Errors: LoadManifest's, naming the directory; ALREADY_EXISTS when one set stands there twice, or
// two of one name, by which clients could not tell them apart; INVALID_ARGUMENT when the rows of
// one token are more than a batch may have; CheckCanListen's.
absl::Status CheckBeforeLoading(const ServerConfig& config);

// The part of it that needs neither tables nor addresses: certificates, keys and tokens. TLS's and
// AccessControl's errors.
absl::Status CheckSecurity(const ServerConfig& config);

}  // namespace engram
