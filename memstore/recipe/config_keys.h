// The keys of config.json that say something of a family's recipe, each with what it means.
//
// Stateless. By the models' public configurations; where two spellings are known, both are read.
#pragma once

#include <optional>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/addressing/families.h"
#include "memstore/recipe/stated_recipe.h"

namespace engram {

enum class KeyReach {
  kOwn,      // of the family's own: its object is the one that counts
  kBeside,   // read in that object alone
  kGeneric,  // read in that object, around it and in the text model within it
};

enum class KeyForm {
  kApart,  // known, and nothing that enters an address
  kNumber,
  kEqualNumbers,  // a number, or a list of equal ones (one for each order)
  kNumbers,
  kNumbersFrom1,  // layers, counted from 1
  kEndToken,      // a number, or a list of which one counts
  kVocabRatio,    // what the vocabulary is multiplied by, rounded down; it stands behind that
  kOff,           // what the recipe lacks: must be false, 0 or empty
};

struct ConfigKey {
  absl::string_view key;
  std::optional<RecipeParameter> parameter;  // none: kOff, kApart
  KeyForm form = KeyForm::kNumber;
  KeyReach reach = KeyReach::kOwn;
};

absl::Span<const ConfigKey> ConfigKeysOf(ConfigKeys keys);
// Whether `key` is one of the family's own, known or not.
bool IsOwnKey(ConfigKeys keys, absl::string_view key);
// Whether `key` is one of the family's own that says something of its recipe.
bool IsReadKey(ConfigKeys keys, absl::string_view key);
// Whether an object of this name is the family's own: keys in it need no prefix.
bool IsOwnObject(ConfigKeys keys, absl::string_view name);

}  // namespace engram
