// Tells the tensors of a family's tables by their names, however the model is wrapped and cut.
//
// A table has a name in the model ("layers.1.engram.embed"), to which a checkpoint adds what it
// wraps the model in ("model.language_model.") and how it cuts the rows (".weight",
// ".shard_3.weight", ".shards.3"). Immutable, thread-safe; looks at names alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "memstore/addressing/families.h"

namespace engram {

struct TableTensor {
  enum class Part { kWeight, kScale, kUnknown };

  uint32_t layer = 0;
  std::string stem;  // the whole name down to the table
  Part part = Part::kWeight;
  std::string form;  // what follows, with "{piece}" for the piece's number
  std::optional<uint32_t> piece;
};

class TableNames {
 public:
  explicit TableNames(const Family& family);

  // Absent for a tensor that is no table's, and for constants. kUnknown: whatever else lies under a
  // table's name: it can change what the rows mean, and this program does not know it.
  std::optional<TableTensor> Parse(absl::string_view name) const;
  // The endings that a table of `layer` may have, for messages.
  std::string LookedFor(uint32_t layer) const;

 private:
  // "layers.{layer}.engram.embed", cut at the layer's number; `behind` is empty where a family has
  // one table and its name no layer.
  struct Base {
    std::string before, behind;
  };
  std::optional<TableTensor> ParseOfAnyModel(absl::string_view name) const;
  std::optional<TableTensor> ParseAt(const Base& base, absl::string_view name, size_t at) const;
  // The table as a whole beside its columns, "ngram_embeddings.weight": never known.
  std::optional<TableTensor> ParseWhole(absl::string_view name) const;

  std::vector<Base> bases_;
  uint32_t only_layer_ = 0;
  bool column_tensors_;
};

// The name of a piece of `form` beside `stem`.
std::string PieceName(const std::string& stem, const std::string& form, uint64_t piece);

}  // namespace engram
