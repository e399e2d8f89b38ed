// Whether the table set that an owner answered with is the one that was asked for.
//
// Every transport that attaches asks it before anything else of the answer is used: a manifest that
// fits its own id says only that the two belong together. Stateless and thread-safe.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "memstore/table/manifest.h"

namespace engram {

// `asked`: an id where it is 64 hexadecimal digits, else a name or the first 12 digits of an id or
// more; empty, which any set answers.
bool IsAskedFor(const Manifest& manifest, absl::string_view asked);

// DATA_LOSS, with what was asked for and what came, when it is another. `owner`: "engramd at ...".
absl::Status CheckAskedFor(const Manifest& manifest, absl::string_view asked,
                           absl::string_view owner);

}  // namespace engram
