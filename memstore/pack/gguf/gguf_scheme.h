// The address scheme of a model in GGUF: the family's recipe with the parameters that the flags and
// the metadata state, held against every constant that the metadata store.
//
// Stateless; reads the token map.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "memstore/addressing/families.h"
#include "memstore/gguf/model.h"
#include "memstore/pack/pack_options.h"
#include "memstore/recipe/stated_recipe.h"

namespace engram {

struct GgufScheme {
  Family family;  // with the model's parameters
  PackScheme scheme;
  StatedRecipe stated;
  std::vector<std::string> differences;  // of the model from the family
  std::vector<std::string> notes;        // for people: these, what was not compared, what was taken
  // What rows of bytes are, in the converter's words, and where they stand; empty: not said.
  std::string encoding, encoding_source;
  // The metadata's, ascending, each once; where they name none, the family's, unless they state
  // another model than the family's: converters leave out what no address needs.
  std::vector<int32_t> image_token_ids;
};

// Sources that disagree are refused by name, with both values and what they mean. Errors of
// CheckPackOptions and MakePackScheme as well. The token map is the one that the metadata store, or
// that of `options`; where both are there, they must be the same.
absl::StatusOr<GgufScheme> ReadGgufScheme(const Family& family, const GgufModel& model,
                                          const PackOptions& options);

}  // namespace engram
