// Goes through a JSON text value by value without building a tree of it: the texts are other
// people's and can be long, what is wanted of them is little.
//
// Used once, by one thread. Memory: the nesting's keys, at most kMaxJsonNesting of them, and those
// of the top level, and a copy of the text.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace engram {

// Nothing that is read nests deeper than a few levels.
inline constexpr size_t kMaxJsonNesting = 64;

struct JsonValue {
  const std::string* text = nullptr;  // a string
  const uint64_t* number = nullptr;   // a whole number from 0 on
  bool begins_array = false;          // its elements follow; none of the three: anything else
};

// The keys down to a value, an empty one for each array on the way.
using JsonPath = std::vector<std::string>;

// Calls `value` for every scalar and at every array's begin. INVALID_ARGUMENT for what is no JSON,
// nests too deep or has a key twice at its top level; a status of `value`'s that is not OK ends the
// walk and is returned.
absl::Status WalkJson(absl::string_view text,
                      const std::function<absl::Status(const JsonPath&, const JsonValue&)>& value);

}  // namespace engram
