#include "memstore/recipe/stated_recipe.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// Sums with a layer's step stay below 2^64.
constexpr uint64_t kMaxSeed = uint64_t{1} << 63;
constexpr uint64_t kMaxTokenId = kMaxVocabSize - 1;
// More than any model's hidden state.
constexpr uint64_t kMaxRowValues = 1u << 20;
// Vocabularies are padded upwards, to a multiple of some hundreds: by no more than one in so many.
constexpr uint64_t kIdsForPadding = 16;

struct Meaning {
  const char* text;
  uint64_t lowest;
  uint64_t highest;
};

Meaning MeaningOf(RecipeParameter parameter) {
  switch (parameter) {
    case RecipeParameter::kSeed:
      return {"the seed of the hash multipliers", 0, kMaxSeed};
    case RecipeParameter::kBaseRows:
      return {"the base size of a head's table, in rows", 1, kMaxLayerRows};
    case RecipeParameter::kMaxOrder:
      return {"the longest n-gram, in token ids", 2, kMaxOrder};
    case RecipeParameter::kHeadsPerOrder:
      return {"the heads of each n-gram length", 1, kMaxHeadsPerOrder};
    case RecipeParameter::kVocabSize:
      return {"the number of token ids", 1, kMaxVocabSize};
    case RecipeParameter::kTextVocabSize:
      return {"the number of the text model's token ids", 1, kMaxVocabSize};
    case RecipeParameter::kCompressedVocabSize:
      return {"the number of compressed token ids", 1, kMaxVocabSize};
    case RecipeParameter::kPadToken:
      return {"the token id that stands in before the start", 0, kMaxTokenId};
    case RecipeParameter::kResetToken:
      return {"the token id that ends a window", 0, kMaxTokenId};
    case RecipeParameter::kLayers:
      return {"the layers that have tables, counted from 0", 0, kMaxTokenId};
    case RecipeParameter::kRowValues:
      return {"the values of a row", 1, kMaxRowValues};
    case RecipeParameter::kOrderValues:
      return {"the values of the rows of one n-gram", 1, kMaxRowValues};
    case RecipeParameter::kPositionValues:
      return {"the values of the rows of one position", 1, kMaxRowValues};
    case RecipeParameter::kLayerRows:
      return {"the rows of each layer's table", 1, kMaxLayerRows};
    case RecipeParameter::kRowsMultiple:
      return {"what the stored rows are padded to a multiple of", 1, kMaxLayerRows};
    case RecipeParameter::kPieces:
      return {"the pieces that the stored rows are split into", 1, kMaxLayerRows};
  }
  return {"", 0, 0};
}

std::string Join(const std::vector<uint64_t>& values) {
  return values.size() == 1 ? absl::StrCat(values[0])
                            : absl::StrCat("[", absl::StrJoin(values, ", "), "]");
}

std::string Said(const RecipeStatement& statement) {
  return absl::StrCat(statement.source, " is ", statement.text);
}

bool IsFlag(const RecipeStatement& statement) { return absl::StartsWith(statement.source, "--"); }

absl::Status Disagree(RecipeParameter parameter, const RecipeStatement& one,
                      const RecipeStatement& other) {
  const RecipeStatement* flag = IsFlag(one) ? &one : IsFlag(other) ? &other : nullptr;
  return absl::FailedPreconditionError(absl::StrCat(
      Said(one), ", but ", Said(other), ", and both are ", MeaningOf(parameter).text, ": ",
      flag != nullptr ? absl::StrCat("leave ", flag->source, " out if the other is right")
                      : "one of them is another model's"));
}

absl::Status CheckValues(RecipeParameter parameter, const RecipeStatement& statement) {
  const Meaning meaning = MeaningOf(parameter);
  const auto refuse = [&](absl::string_view must) {
    return absl::FailedPreconditionError(
        absl::StrCat(Said(statement), ", which is ", meaning.text, ": must be ", must));
  };
  for (const uint64_t value : statement.values) {
    if (value >= meaning.lowest && value <= meaning.highest) continue;
    return refuse(absl::StrCat(meaning.lowest, "..", meaning.highest));
  }
  if (parameter != RecipeParameter::kLayers) return absl::OkStatus();
  const std::vector<uint64_t>& layers = statement.values;
  if (layers.empty() || layers.size() > kMaxLayers) {
    return refuse(absl::StrCat("1..", kMaxLayers, " layers"));
  }
  if (std::adjacent_find(layers.begin(), layers.end(), std::greater_equal<>()) != layers.end()) {
    return refuse("ascending, each layer once");
  }
  return absl::OkStatus();
}

// What `family` itself says of a parameter that it has; of the others nothing.
std::optional<std::vector<uint64_t>> OwnValues(const Family& family, RecipeParameter parameter) {
  using Values = std::vector<uint64_t>;
  switch (parameter) {
    case RecipeParameter::kSeed:
      return Values{family.multiplier_seed};
    case RecipeParameter::kBaseRows:
      return Values{family.rows_per_head};
    case RecipeParameter::kMaxOrder:
      return Values{family.max_order};
    case RecipeParameter::kHeadsPerOrder:
      return Values{family.heads_per_order};
    case RecipeParameter::kVocabSize:
      return Values{family.vocab_size};
    case RecipeParameter::kCompressedVocabSize:
      return Values{family.compressed_vocab_size};
    case RecipeParameter::kPadToken:
      return Values{static_cast<uint64_t>(family.pad_id)};
    case RecipeParameter::kResetToken:
      return Values{static_cast<uint64_t>(family.reset_token_id)};
    case RecipeParameter::kLayers:
      return Values(family.layers.begin(), family.layers.end());
    case RecipeParameter::kRowValues:
      return Values{family.row_dim};
    case RecipeParameter::kOrderValues:
      return Values{uint64_t{family.row_dim} * family.heads_per_order};
    case RecipeParameter::kPositionValues:
      return Values{uint64_t{family.row_dim} * family.heads_per_order * (family.max_order - 1)};
    case RecipeParameter::kTextVocabSize:
    case RecipeParameter::kLayerRows:
    case RecipeParameter::kRowsMultiple:
    case RecipeParameter::kPieces:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

absl::Status StatedRecipe::State(RecipeParameter parameter, RecipeStatement statement) {
  ENGRAM_RETURN_IF_ERROR(CheckValues(parameter, statement));
  const auto [at, is_new] = statements_.try_emplace(parameter, statement);
  if (is_new || at->second.values == statement.values) return absl::OkStatus();
  return Disagree(parameter, at->second, statement);
}

const RecipeStatement* StatedRecipe::Find(RecipeParameter parameter) const {
  const auto at = statements_.find(parameter);
  return at == statements_.end() ? nullptr : &at->second;
}

absl::StatusOr<Family> StatedRecipe::Apply(const Family& family) const {
  Family stated = family;
  const auto take = [this](RecipeParameter parameter, auto& field) {
    const RecipeStatement* statement = Find(parameter);
    if (statement == nullptr) return false;
    field = static_cast<std::decay_t<decltype(field)>>(statement->values[0]);
    return true;
  };
  take(RecipeParameter::kSeed, stated.multiplier_seed);
  take(RecipeParameter::kBaseRows, stated.rows_per_head);
  take(RecipeParameter::kMaxOrder, stated.max_order);
  take(RecipeParameter::kHeadsPerOrder, stated.heads_per_order);
  take(RecipeParameter::kVocabSize, stated.vocab_size);
  take(RecipeParameter::kPadToken, stated.pad_id);
  if (take(RecipeParameter::kResetToken, stated.reset_token_id) && family.pad_is_reset_token) {
    stated.pad_id = stated.reset_token_id;
  }
  if (take(RecipeParameter::kCompressedVocabSize, stated.compressed_vocab_size) &&
      stated.compressed_vocab_size != family.compressed_vocab_size) {
    stated.token_map_sha256.clear();  // another tokenizer's
  }
  if (const RecipeStatement* layers = Find(RecipeParameter::kLayers)) {
    stated.layers.assign(layers->values.begin(), layers->values.end());
  }
  ENGRAM_RETURN_IF_ERROR(ApplyRowValues(stated));
  return stated;
}

absl::Status StatedRecipe::ApplyRowValues(Family& family) const {
  const RecipeStatement* said = nullptr;
  const std::pair<RecipeParameter, uint32_t> parts[] = {
      {RecipeParameter::kRowValues, 1},
      {RecipeParameter::kOrderValues, family.heads_per_order},
      {RecipeParameter::kPositionValues, family.heads_per_order * (family.max_order - 1)}};
  for (const auto& [parameter, rows] : parts) {
    const RecipeStatement* statement = Find(parameter);
    if (statement == nullptr) continue;
    const uint64_t values = statement->values[0];
    if (values % rows != 0) {
      return absl::FailedPreconditionError(
          absl::StrCat(Said(*statement), ", which is ", MeaningOf(parameter).text,
                       ": it does not divide into ", rows, " rows"));
    }
    if (said != nullptr && family.row_dim != values / rows) {
      return absl::FailedPreconditionError(absl::StrCat(Said(*said), ", rows of ", family.row_dim,
                                                        " values, but ", Said(*statement),
                                                        ", rows of ", values / rows, " values"));
    }
    family.row_dim = static_cast<uint32_t>(values / rows);
    said = statement;
  }
  return absl::OkStatus();
}

std::vector<std::string> StatedRecipe::Differences(const Family& family) const {
  std::vector<std::string> differences;
  for (const auto& [parameter, statement] : statements_) {
    const auto own = OwnValues(family, parameter);
    if (!own || *own == statement.values || IsFlag(statement)) continue;
    differences.push_back(absl::StrCat(Said(statement), ", ", family.name, " has ", Join(*own),
                                       " (", MeaningOf(parameter).text, ")"));
  }
  return differences;
}

absl::Status StatedRecipe::CheckLayerRows(const AddressScheme& scheme) const {
  const RecipeStatement* stated = Find(RecipeParameter::kLayerRows);
  if (stated == nullptr) return absl::OkStatus();
  std::vector<uint64_t> rows;
  rows.reserve(scheme.layers.size());
  for (const LayerAddressing& layer : scheme.layers) rows.push_back(layer.Rows());
  if (rows == stated->values) return absl::OkStatus();
  const RecipeStatement* base = Find(RecipeParameter::kBaseRows);
  return absl::FailedPreconditionError(absl::StrCat(
      Said(*stated), ", expected ", Join(rows), ", which is ",
      MeaningOf(RecipeParameter::kLayerRows).text, " by the recipe of ", scheme.family, " with ",
      base != nullptr ? Said(*base) : std::string("the family's own base size"),
      ": give the checkpoint's base size with --rows-per-head"));
}

absl::Status StatedRecipe::CheckTokenMapLength(uint64_t ids) const {
  const RecipeStatement* stated = Find(RecipeParameter::kTextVocabSize);
  if (stated == nullptr) return absl::OkStatus();
  const uint64_t vocab_size = stated->values[0];  // at most kMaxVocabSize
  const uint64_t apart = ids > vocab_size ? ids - vocab_size : vocab_size - ids;
  if (apart * kIdsForPadding <= vocab_size) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "the token map has ", ids, " ids, but ", Said(*stated), ", which is ",
      MeaningOf(RecipeParameter::kTextVocabSize).text,
      ": is it of the model's tokenizer, and whole? Give the model's map with --token-map FILE"));
}

std::string StatedRecipe::NoteOnTokenMap(uint64_t ids) const {
  const RecipeStatement* stated = Find(RecipeParameter::kTextVocabSize);
  if (stated == nullptr || ids <= stated->values[0]) return {};
  return absl::StrCat("the token map has ", ids, " ids, and ", Said(*stated), ", which is ",
                      MeaningOf(RecipeParameter::kTextVocabSize).text,
                      ": is it of the model's tokenizer?");
}

absl::Status StatedRecipe::CheckPieces(uint64_t rows, absl::Span<const uint64_t> piece_rows) const {
  const RecipeStatement* multiple = Find(RecipeParameter::kRowsMultiple);
  const RecipeStatement* pieces = Find(RecipeParameter::kPieces);
  if (multiple == nullptr || pieces == nullptr || piece_rows.size() != pieces->values[0]) {
    return absl::OkStatus();
  }
  const auto round_up = [](uint64_t a, uint64_t b) { return (a + b - 1) / b; };
  const uint64_t padded = round_up(rows, multiple->values[0]) * multiple->values[0];
  const uint64_t expected = round_up(padded, pieces->values[0]);
  if (piece_rows[0] == expected) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the table lies in ", piece_rows.size(), " tensors of ", piece_rows[0],
                   " rows, expected ", expected, " each: ", rows, " rows, ", Said(*multiple), ", ",
                   Said(*pieces), ". Padding between the pieces would shift the rows behind it"));
}

}  // namespace engram
