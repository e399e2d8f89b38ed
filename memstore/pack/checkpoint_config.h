// Whether a checkpoint's config.json agrees with the address scheme that its rows are packed under.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "memstore/addressing/families.h"
#include "memstore/addressing/scheme.h"

namespace engram {

// OK when DIRECTORY/config.json is absent, or every engram key it has, at top level or under
// text_config, is what `family` and `scheme` say with `rows_per_head` in force. FAILED_PRECONDITION
// names key, found and expected, and the fix. Keys that are absent or null are not asked for.
absl::Status CheckCheckpointConfig(const std::string& directory, const Family& family,
                                   const AddressScheme& scheme, uint64_t rows_per_head);

}  // namespace engram
