// Which name was meant by one that there is not.
// Stateless, thread-safe.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace engram {

// The letters to insert, remove, replace or swap with their neighbour to make one of the other.
size_t EditDistance(absl::string_view one, absl::string_view other);

// The name that is nearest to `word`, when it is near enough to have been meant: a third of its
// letters, or `word` is its beginning. Empty: none is.
std::string NearestName(absl::string_view word, const std::vector<std::string>& names);

}  // namespace engram
