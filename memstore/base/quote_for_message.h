// How a message shows a value that came from a file, a flag or the wire.
//
// Stateless, thread-safe. Others choose such a value: it can hold control characters, no UTF-8, or
// be as long as the file is. What is shown is printable ASCII, of a bounded length.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace engram {

// Of a value's bytes, the most that are shown: a digest or a tensor's name is shown whole, and a
// message stays readable.
inline constexpr size_t kMaxQuotedBytes = 200;
// Of a path's: as Linux bounds one, for a file can only be found by the whole of it.
inline constexpr size_t kMaxQuotedPathBytes = 4096;

// `value` with all but printable ASCII written as C escapes, and cut after kMaxQuotedBytes of it
// with a note of its length.
std::string QuoteForMessage(absl::string_view value);
// The same of a path, cut after kMaxQuotedPathBytes.
std::string QuotePathForMessage(absl::string_view path);

}  // namespace engram
