// The address scheme of a checkpoint: the family's recipe with the parameters that the flags and
// config.json state, held against every constant that the checkpoint's tensors store.
//
// Stateless; reads config.json, headers, the token map and a few small tensors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/addressing/families.h"
#include "memstore/pack/named_rows.h"
#include "memstore/pack/pack_options.h"
#include "memstore/recipe/stated_recipe.h"
#include "memstore/safetensors/checkpoint.h"

namespace engram {

struct CheckpointScheme {
  Family family;  // with the model's parameters
  PackScheme scheme;
  RowNames rows;                                 // none: the rows are the family's own tensors
  std::unique_ptr<const Checkpoint> checkpoint;  // the tensors of the scheme's tables, and others
  StatedRecipe stated;
  bool is_compared = false;              // with a config.json that says something of the recipe
  std::vector<std::string> differences;  // of the model from the family
  std::vector<std::string> notes;        // for people: these, what was not compared, what was taken
};

// Sources that disagree are refused by name, with both values and what they mean; so are tables
// that the scheme does not know. Errors of CheckPackOptions, MakePackScheme and Checkpoint::Open as
// well.
absl::StatusOr<CheckpointScheme> ReadCheckpointScheme(const Family& family,
                                                      const std::string& checkpoint,
                                                      const PackOptions& options);

// States what the flags say of the recipe.
absl::Status StateFlags(const PackOptions& options, StatedRecipe& stated);

// `status` of a table that does not fit the scheme, with what the model says otherwise than its
// family: that may be the reason.
absl::Status WithDifferences(const absl::Status& status, const StatedRecipe& stated,
                             const std::vector<std::string>& differences);
absl::Status WithDifferences(const absl::Status& status, const CheckpointScheme& model);

}  // namespace engram
