// Python's json module writes NaN, Infinity and -Infinity, which are no JSON, and numbers that no
// double holds can stand in any text. Where nobody reads them they are no reason to refuse a file.
//
// Stateless, thread-safe. Cost: one pass, and a copy of the text.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace engram {

// `text` with each such number as a string of its letters, so that a reader of the value finds no
// number and can say what it found. Strings stay, and so does what is no JSON for another reason.
std::string QuotePythonNumbers(absl::string_view text);

}  // namespace engram
