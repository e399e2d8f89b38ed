// Names that may stand in a path, a log line and a JSON text as they are: of files in a table set,
// of the set itself, of its family.
//
// Stateless, thread-safe.
#pragma once

#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace engram {

// Leaves room for an ending in a file system's 255.
inline constexpr size_t kMaxNameBytes = 200;

// 1..kMaxNameBytes letters, digits, '.', '_' and '-', not beginning with '.': no way out of a
// directory, nothing to escape. INVALID_ARGUMENT says what `field` is and the rule.
absl::Status CheckPlainName(absl::string_view name, absl::string_view field);

}  // namespace engram
