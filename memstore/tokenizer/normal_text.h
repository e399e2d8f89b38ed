// How the texts of tokens are compared: what differs in case, accents, width or the kind of blank
// alone is one text (proto/FORMATS.md, "Token maps").
//
// Stateless, thread-safe. The tables are those of ICU, which are part of its library.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

// `text` is valid UTF-8. Empty where nothing is left of it. INTERNAL when ICU fails, which names
// its reason.
absl::StatusOr<std::string> NormalText(absl::string_view text);

}  // namespace engram
