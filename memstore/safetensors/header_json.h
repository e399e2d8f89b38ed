// The entries of a safetensors header's JSON, one after the other.
//
// Used once, by one thread. Memory: one entry; no tree of the text is built.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace engram {

// A tensor's entry, as far as it is one.
struct HeaderEntry {
  std::string dtype;
  std::vector<uint64_t> shape;
  std::vector<uint64_t> offsets;
  // Keys that were seen: once each in a sound entry.
  bool has_dtype = false, has_shape = false, has_offsets = false;
  // The first key that is unknown, is there twice, or has a value of another kind; empty: none.
  std::string bad_key;
  bool is_bad = false;

  bool IsWhole() const { return !is_bad && has_dtype && has_shape && has_offsets; }
  void Clear();
};

// Calls `entry` for every object at the top but "__metadata__"; anything else there is passed over.
// INVALID_ARGUMENT for what is no JSON object or nests too deep; a status of `entry`'s that is not
// OK ends the walk and is returned.
using HeaderEntryFunction =
    std::function<absl::Status(const std::string& name, const HeaderEntry& entry)>;
absl::Status WalkHeader(absl::string_view text, const HeaderEntryFunction& entry);

}  // namespace engram
