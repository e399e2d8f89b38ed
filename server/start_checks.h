// What can be said of a configuration before the minutes that loading its tables takes.
//
// Reads manifests, and touches the addresses; stateless.
#pragma once

#include "absl/status/status.h"
#include "server/config/config.h"

namespace engram {

// Errors: TLS's and AccessControl's for certificates, keys and tokens; LoadManifest's, naming the
// directory; ALREADY_EXISTS when one set stands there twice, or two of one name, by which clients
// could not tell them apart; INVALID_ARGUMENT when the rows of one token are more than a batch may
// have; CheckCanListen's, naming the flag.
absl::Status CheckBeforeLoading(const ServerConfig& config);

// The part of it that holds while another engramd serves by the same configuration: of the
// addresses, whether a Unix socket's folder is there and may be written to. Touches none.
absl::Status CheckConfiguration(const ServerConfig& config);

}  // namespace engram
