// What a model's sources say of its recipe's parameters: config.json, flags, whatever describes it.
//
// Each statement carries its source, so that two that disagree are refused by both names. One
// thread at a time. Memory: a few values and texts for each parameter.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/addressing/families.h"
#include "memstore/addressing/scheme.h"

namespace engram {

enum class RecipeParameter {
  kSeed,
  kBaseRows,
  kMaxOrder,
  kHeadsPerOrder,
  kVocabSize,
  kTextVocabSize,  // where compressed ids are hashed: of the text model, often padded
  kCompressedVocabSize,
  kPadToken,
  kResetToken,
  kLayers,          // counted from 0
  kRowValues,       // a row's
  kOrderValues,     // of an order's rows together
  kPositionValues,  // of all of a position's rows together
  kLayerRows,       // of each layer, in the order of the layers
  kRowsMultiple,    // the stored rows are padded to a multiple of this
  kPieces,          // that the stored rows are split into
};

struct RecipeStatement {
  std::vector<uint64_t> values;
  std::string source;  // for messages: "--rows-per-head", "DIR/config.json: text_config.seed"
  std::string text;    // the value as it stands in the source
};

class StatedRecipe {
 public:
  // FAILED_PRECONDITION for a value that cannot be, or that is not what an earlier source said: it
  // names the sources, the values and what they mean.
  absl::Status State(RecipeParameter parameter, RecipeStatement statement);
  // nullptr when no source said anything.
  const RecipeStatement* Find(RecipeParameter parameter) const;
  size_t size() const { return statements_.size(); }

  // `family` with what is stated in place of its own parameters.
  absl::StatusOr<Family> Apply(const Family& family) const;
  // What the sources (flags aside) say otherwise than `family`: "text_config.seed is 7, ...".
  std::vector<std::string> Differences(const Family& family) const;

  // Whether the rows of `scheme` are those that are stated.
  absl::Status CheckLayerRows(const AddressScheme& scheme) const;
  // Whether a token map of `ids` can be that of a text model with the stated number of ids: a
  // number that is padded, or leaves out some that were added, is near it.
  absl::Status CheckTokenMapLength(uint64_t ids) const;
  // What is to be said of one that has ids which the model has not; empty: nothing.
  std::string NoteOnTokenMap(uint64_t ids) const;
  // Whether a table of `rows` that lies in as many pieces as are stated has pieces of the length
  // that the stated padding makes. Padding between the pieces would shift every row behind it.
  absl::Status CheckPieces(uint64_t rows, absl::Span<const uint64_t> piece_rows) const;

 private:
  absl::Status ApplyRowValues(Family& family) const;

  std::map<RecipeParameter, RecipeStatement> statements_;
};

}  // namespace engram
