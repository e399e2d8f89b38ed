#include "memstore/pack/table_names.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "memstore/recipe/checkpoint_config.h"

namespace engram {
namespace {

constexpr absl::string_view kLayerMark = "{layer}";
constexpr absl::string_view kPieceMark = "{piece}";
constexpr absl::string_view kWeight = "weight";
// As released; as engines name the parameter (FP8 of DeepSeek's: the factor to multiply with).
constexpr absl::string_view kScales[] = {"scale", "weight_scale", "weight_scale_inv"};
// Ends of the names of constants that are stored; they are compared elsewhere.
constexpr absl::string_view kConstants[] = {"layer_multipliers", "ngram_heads_vocab_sizes",
                                            "ngram_heads_offsets"};
// What models are wrapped in, at the front of a family's own names.
constexpr absl::string_view kWrappers[] = {"model.", "language_model."};

// Numbers may be padded with zeros: "007".
std::optional<uint32_t> Number(absl::string_view text) {
  uint32_t number;
  const bool digits = !text.empty() && std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
  if (!digits || !absl::SimpleAtoi(text, &number)) return std::nullopt;
  return number;
}

bool IsScale(absl::string_view name) {
  return std::find(std::begin(kScales), std::end(kScales), name) != std::end(kScales);
}

// The table's name of a tensor's pattern: without the wrapper, the piece and ".weight".
std::string TableOf(absl::string_view pattern) {
  absl::ConsumeSuffix(&pattern, absl::StrCat(".", kWeight));
  if (const size_t mark = pattern.find(kPieceMark); mark != absl::string_view::npos) {
    pattern = pattern.substr(0, pattern.rfind('.', mark));
  }
  for (const absl::string_view wrapper : kWrappers) absl::ConsumePrefix(&pattern, wrapper);
  return std::string(pattern);
}

// Reads "shards.3", "shard_3" or "3" off the front of `parts`.
void TakePiece(std::vector<absl::string_view>& parts, TableTensor& tensor) {
  size_t taken = 0;
  if (parts.size() >= 2 && parts[0] == "shards" && (tensor.piece = Number(parts[1]))) {
    tensor.form = "shards.{piece}";
    taken = 2;
  } else if (absl::string_view number = parts[0];
             absl::ConsumePrefix(&number, "shard_") && (tensor.piece = Number(number))) {
    tensor.form = "shard_{piece}";
    taken = 1;
  } else if ((tensor.piece = Number(parts[0]))) {
    tensor.form = "{piece}";
    taken = 1;
  }
  parts.erase(parts.begin(), parts.begin() + taken);
}

// What follows the table's name, without the first dot. False: none of the table's tensors.
bool ParseTail(absl::string_view tail, TableTensor& tensor) {
  const std::vector<absl::string_view> whole = absl::StrSplit(tail, '.');
  std::vector<absl::string_view> parts = whole;
  TakePiece(parts, tensor);
  // "shards.3" is a weight, "3" is nothing known.
  if (parts.empty() && tensor.form != kPieceMark) return true;
  if (parts.size() == 1 && (parts[0] == kWeight || IsScale(parts[0]))) {
    tensor.part = parts[0] == kWeight ? TableTensor::Part::kWeight : TableTensor::Part::kScale;
    absl::StrAppend(&tensor.form, tensor.form.empty() ? "" : ".", parts[0]);
    return true;
  }
  // A bias, adapters, zero points, a second scale: what the rows mean depends on them.
  tensor.part = TableTensor::Part::kUnknown;
  tensor.form.clear();
  tensor.piece.reset();
  return std::find(std::begin(kConstants), std::end(kConstants), whole.back()) ==
         std::end(kConstants);
}

}  // namespace

TableNames::TableNames(const Family& family) : column_tensors_(family.column_tensors) {
  if (!family.layers.empty()) only_layer_ = family.layers[0];
  std::vector<std::string> tables = {TableOf(family.weight_tensor)};
  // vLLM's name of the parameter that the checkpoint's "embed" is loaded to.
  if (absl::EndsWith(tables[0], ".embed")) tables.push_back(tables[0] + "_tokens");
  for (const std::string& table : tables) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(table, absl::MaxSplits(kLayerMark, 1));
    bases_.push_back({parts.first, parts.second});
  }
}

std::optional<TableTensor> TableNames::Parse(absl::string_view name) const {
  std::optional<TableTensor> tensor = ParseOfAnyModel(name);
  // A draft model may have tables of its own. Asked last: of a hundred thousand names in a
  // checkpoint's headers all but a few are no table's, and the words of each take longer than its
  // JSON.
  if (tensor && IsOfOtherModel(name)) return std::nullopt;
  return tensor;
}

std::optional<TableTensor> TableNames::ParseOfAnyModel(absl::string_view name) const {
  for (const Base& base : bases_) {
    for (size_t at = name.find(base.before); at != absl::string_view::npos;
         at = name.find(base.before, at + 1)) {
      if (at > 0 && name[at - 1] != '.') continue;
      if (std::optional<TableTensor> tensor = ParseAt(base, name, at)) return tensor;
    }
  }
  if (column_tensors_) return ParseWhole(name);
  return std::nullopt;
}

std::optional<TableTensor> TableNames::ParseWhole(absl::string_view name) const {
  for (const Base& base : bases_) {
    const absl::string_view module =
        absl::string_view(base.before).substr(0, base.before.rfind('.'));
    const absl::string_view stem = name.substr(0, name.rfind('.'));
    if (stem.size() == name.size() || !absl::StartsWith(name.substr(stem.size() + 1), kWeight)) {
      continue;
    }
    if (stem != module && !absl::EndsWith(stem, absl::StrCat(".", module))) continue;
    TableTensor tensor;
    tensor.layer = only_layer_;
    tensor.stem = std::string(stem);
    tensor.part = TableTensor::Part::kUnknown;
    return tensor;
  }
  return std::nullopt;
}

std::optional<TableTensor> TableNames::ParseAt(const Base& base, absl::string_view name,
                                               size_t at) const {
  TableTensor tensor;
  tensor.layer = only_layer_;
  absl::string_view tail = name.substr(at + base.before.size());
  if (!base.behind.empty()) {
    const absl::string_view number = tail.substr(0, tail.find('.'));
    const std::optional<uint32_t> layer = Number(number);
    if (!layer || absl::StrCat(*layer) != number) return std::nullopt;
    tensor.layer = *layer;
    tail.remove_prefix(number.size());
    if (!absl::ConsumePrefix(&tail, base.behind)) return std::nullopt;
  }
  tensor.stem = std::string(name.substr(0, name.size() - tail.size()));
  if (!absl::ConsumePrefix(&tail, ".") || !ParseTail(tail, tensor)) return std::nullopt;
  return tensor;
}

std::string TableNames::LookedFor(uint32_t layer) const {
  std::string text;
  for (const Base& base : bases_) {
    const std::string table =
        absl::StrCat(base.before, base.behind.empty() ? "" : absl::StrCat(layer), base.behind);
    absl::StrAppend(&text, text.empty() ? "" : ", ", table, ".weight, ", table,
                    column_tensors_ ? ".{i}.weight" : ".shard_{i}.weight", ", ", table,
                    ".shards.{i}");
  }
  return text;
}

std::string PieceName(const std::string& stem, const std::string& form, uint64_t piece) {
  return absl::StrCat(stem, ".", absl::StrReplaceAll(form, {{kPieceMark, absl::StrCat(piece)}}));
}

}  // namespace engram
