// A message as one bounded line, for a terminal, a log or a header of gRPC.
//
// Stateless, thread-safe. Whole messages can hold what a peer said: escape sequences, line ends,
// megabytes. A value alone is shown by QuoteForMessage, which is stricter.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace engram {

// Room for what we say ourselves with two paths of the greatest length in it.
inline constexpr size_t kMaxMessageLineBytes = 10'000;
// Of what a peer said: more than any message of engramd's.
inline constexpr size_t kMaxPeerWordsBytes = 2'000;

// `text` where it has `most_bytes` at most; else its beginning and its end, where what is wrong and
// what to do about it stand, with a note between them that says how much was left out. Characters
// of UTF-8 are not cut. The note is not counted.
std::string ShortenMessage(absl::string_view text, size_t most_bytes);

// `text` shortened, and then what a terminal would obey, and what is no UTF-8, written as C
// escapes: control characters, line ends, and marks that turn the direction of writing. Other
// characters and backslashes stay.
std::string MessageLine(absl::string_view text, size_t most_bytes = kMaxMessageLineBytes);

}  // namespace engram
