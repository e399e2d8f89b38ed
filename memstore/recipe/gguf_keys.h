// What a GGUF's metadata say of the address scheme: parameters of the recipe, as config.json has
// them, and the constants that converters store.
//
// Keys are told by what follows the architecture's name ("deepseek41.engram.head_count"), since
// converters differ in that name. Stateless. Every number in the file is another's and may be
// anything.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/addressing/families.h"
#include "memstore/gguf/model.h"
#include "memstore/recipe/stated_recipe.h"

namespace engram {

// Numbers that are stored, and where: "FILE: deepseek41.engram.primes".
struct StoredNumbers {
  std::string source;
  std::vector<int64_t> values;
};

struct GgufKeysReport {
  size_t keys = 0;                  // that say something of the addresses
  std::vector<std::string> unread;  // of the family's own, and not known to this program
  // Layer after layer, in the order of the layers.
  std::optional<StoredNumbers> multipliers, moduli, offsets;
  std::optional<StoredNumbers> token_map;
  // What stands in before the start: of `pad` converters store the token's id, or what that is
  // compressed to.
  std::optional<StoredNumbers> pad, compressed_pad;
  // What the rows of bytes are, in the converter's words; empty: not said.
  std::string encoding, encoding_source;
  // What stands in the places of images (image_token_ids.h), whatever the family; none: not said.
  std::set<int32_t> image_token_ids;
};

// Whether ReadGgufKeys may look at a key: GgufModel::Open need not keep others.
bool IsGgufRecipeKey(absl::string_view key);

// States what `model` says of `family`'s parameters. FAILED_PRECONDITION names file, key and value,
// and the other source where two disagree.
absl::StatusOr<GgufKeysReport> ReadGgufKeys(const GgufModel& model, const Family& family,
                                            StatedRecipe& stated);

}  // namespace engram
