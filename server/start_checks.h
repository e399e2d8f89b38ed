// What can be said of a configuration before the minutes that loading its tables takes.
//
// Reads manifests, lists the sets' directories, and touches the addresses; stateless.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/config/config.h"

namespace engram {

// One thing that was looked at.
struct Finding {
  std::string what;  // "table set /tables/a: qwen4-exp 891b..., 1.02 GB of rows"
  absl::Status status = absl::OkStatus();  // its message names the thing as well
};

// The first that is wrong. Errors: TLS's and AccessControl's for certificates, keys and tokens;
// LoadManifest's and CheckSetDirectory's, naming the directory; ALREADY_EXISTS when one set stands
// there twice, or two of one name, by which clients could not tell them apart; INVALID_ARGUMENT
// when the rows of one token are more than a batch may have; CheckCanListen's, naming the flag.
absl::Status CheckBeforeLoading(const ServerConfig& config);

// All of it that holds while another engramd serves by the same configuration, good and bad, one
// finding for each file, table set and socket; of the addresses, whether a Unix socket's folder is
// there and may be written to (none is touched); of memory, whether the sets are more than
// --memory-limit-bytes, the machine or a control group allows at all: RESOURCE_EXHAUSTED.
std::vector<Finding> CheckConfiguration(const ServerConfig& config);

// A line for each, "ok" or "FAILED" first.
std::string FindingsText(const std::vector<Finding>& findings);

}  // namespace engram
