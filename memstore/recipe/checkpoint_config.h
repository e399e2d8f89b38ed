// What a checkpoint's config.json says of the address scheme's parameters.
//
// Of all objects of the file, at any depth, the one that holds a key of the family's own counts;
// two of them are refused. Generic keys (seed, vocab_size, eos_token_id) count in it, in those
// around it and in the wrappers of the text model within it or, where no object holds a key of the
// family's own, at the top level and in all wrappers of the text model. Its own seed counts before
// one around it, and by the family's own name (engram_seed) before any other. What wrappers beside
// it say otherwise is noted. Objects of vision, audio and draft models never count. Stateless.
// Every number and name in the file is another's and may be anything.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "memstore/addressing/families.h"
#include "memstore/recipe/stated_recipe.h"

namespace engram {

struct ConfigReport {
  std::string not_compared;         // why the file said nothing; empty when it did
  std::vector<std::string> unread;  // keys of the family's own that this program does not know
  std::vector<std::string> notes;   // generic keys that say otherwise and do not count
};

// States what DIRECTORY/config.json says of `family`'s parameters; keys that are absent or null say
// nothing. A list of end tokens is refused unless `reset_token`, or what counts before it, is in
// it. FAILED_PRECONDITION names key and value, and the other source where two disagree.
absl::StatusOr<ConfigReport> ReadCheckpointConfig(const std::string& directory,
                                                  const Family& family,
                                                  std::optional<uint32_t> reset_token,
                                                  StatedRecipe& stated);

// Whether a key of config.json, or a part of a tensor's name, is of a vision, audio or draft model.
bool IsOfOtherModel(absl::string_view name);

}  // namespace engram
