#include "memstore/pack/stored_constants.h"

#include <fcntl.h>

#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/recipe/checkpoint_config.h"

namespace engram {
namespace {

enum class Constant { kMultipliers, kModuli, kOffsets };

// The names of buffers, as the models' modules register them, behind "layers.L.MODULE".
struct ConstantName {
  absl::string_view suffix;
  Constant constant;
};
constexpr ConstantName kConstantNames[] = {
    {".layer_multipliers", Constant::kMultipliers},
    {".ngram_heads_vocab_sizes", Constant::kModuli},
    {".ngram_heads_offsets", Constant::kOffsets},
    {".multi_head_embedding.offsets", Constant::kOffsets},
};

// What a tensor's name says of its place: "...layers.L.MODULE.REST".
struct ModuleName {
  uint32_t layer = 0;
  std::string rest;
};

// The first part of the family's names behind the layer: "engram", "ple". Empty where the family
// has one table for the whole model.
absl::string_view ModuleOf(const Family& family) {
  constexpr absl::string_view kMark = "layers.{layer}.";
  const size_t mark = family.weight_tensor.find(kMark);
  if (mark == absl::string_view::npos) return "";
  const absl::string_view behind = family.weight_tensor.substr(mark + kMark.size());
  return behind.substr(0, behind.find('.'));
}

std::optional<ModuleName> ParseModule(const Family& family, absl::string_view name) {
  const absl::string_view module = ModuleOf(family);
  if (module.empty() || !absl::StrContains(name, module) || IsOfOtherModel(name)) {
    return std::nullopt;
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '.');
  for (size_t i = 0; i + 3 < parts.size(); ++i) {
    ModuleName found;
    if (parts[i] != "layers" || parts[i + 2] != module ||
        !absl::SimpleAtoi(parts[i + 1], &found.layer)) {
      continue;
    }
    found.rest = absl::StrCat(".", absl::StrJoin(parts.begin() + i + 3, parts.end(), "."));
    return found;
  }
  return std::nullopt;
}

std::optional<Constant> ConstantOf(const ModuleName& module) {
  for (const ConstantName& name : kConstantNames) {
    if (absl::EndsWith(module.rest, name.suffix)) return name.constant;
  }
  return std::nullopt;
}

// Engines name the table embed, embed_tokens, embedding, multi_head_embedding or ngram_embedding;
// what lies beside it in the module (projections, norms) has none of these.
bool IsTable(const ModuleName& module) {
  return !ConstantOf(module) && (absl::StrContains(module.rest, ".embed") ||
                                 absl::StrContains(module.rest, "_embedding."));
}

// The number of a column's tensor where each column has one: "...STEM.C.weight".
std::optional<uint32_t> ColumnOf(const Family& family, absl::string_view name) {
  if (!family.column_tensors) return std::nullopt;
  const absl::string_view whole = family.weight_tensor;
  const absl::string_view stem = whole.substr(0, whole.find(".{piece}"));
  const absl::string_view table = stem.substr(stem.rfind('.') + 1);
  // The words of a name, which tell its model, take long: first what few names have.
  if (!absl::StrContains(name, table) || IsOfOtherModel(name)) return std::nullopt;
  const std::vector<absl::string_view> parts = absl::StrSplit(name, '.');
  uint32_t column = 0;
  for (size_t i = 1; i + 1 < parts.size(); ++i) {
    if (parts[i - 1] == table && absl::SimpleAtoi(parts[i], &column)) return column;
  }
  return std::nullopt;
}

absl::Status Refuse(const TensorPlace& tensor, absl::string_view found,
                    absl::string_view expected) {
  return absl::FailedPreconditionError(absl::StrCat("the tensor ", QuoteForMessage(tensor.name),
                                                    " in ", tensor.file, " is ", found,
                                                    ", expected ", expected));
}

// As many whole numbers as the recipe makes.
absl::StatusOr<std::vector<int64_t>> ReadNumbers(const TensorPlace& tensor, size_t count,
                                                 absl::string_view meaning) {
  uint64_t elements = 1;  // no overflow: the tensor's bytes were compared with its shape
  for (const uint64_t size : tensor.shape) elements *= size;
  const size_t bytes = tensor.dtype == "I64" || tensor.dtype == "U64"   ? 8
                       : tensor.dtype == "I32" || tensor.dtype == "U32" ? 4
                                                                        : 0;
  if (elements != count || bytes == 0) {
    return Refuse(
        tensor, Describe(tensor),
        absl::StrCat(count, " whole numbers as I64 or I32, ", meaning,
                     ": is config.json, which says how many, this model's? "
                     "--use-stored-constants takes other values, and no other number or type of "
                     "them: store the tensor so; or, where it is something else, rename it or take "
                     "it out of the index, and the recipe's constants count"));
  }
  ENGRAM_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(tensor.file, O_RDONLY));
  std::vector<std::byte> data(count * bytes);
  ENGRAM_RETURN_IF_ERROR(ReadFully(file, tensor.offset, absl::MakeSpan(data), tensor.file));
  std::vector<int64_t> numbers(count);
  for (size_t i = 0; i < count; ++i) {
    uint32_t half = 0;
    std::memcpy(bytes == 8 ? static_cast<void*>(&numbers[i]) : &half, data.data() + i * bytes,
                bytes);
    if (bytes == 4) numbers[i] = static_cast<int32_t>(half);
    if (tensor.dtype == "U32") numbers[i] = half;
    if (numbers[i] < 0) {
      return Refuse(tensor, absl::StrCat("[", absl::StrJoin(numbers, ", "), "]"),
                    "no number that is negative");
    }
  }
  return numbers;
}

struct Field {
  const char* meaning;
  std::vector<int64_t> values;
};

Field FieldOf(const LayerAddressing& layer, Constant constant) {
  switch (constant) {
    case Constant::kMultipliers:
      return {"the hash multipliers", layer.multipliers};
    case Constant::kModuli:
      return {"the heads' table sizes", {layer.moduli.begin(), layer.moduli.end()}};
    case Constant::kOffsets:
      return {"the heads' first rows", {layer.offsets.begin(), layer.offsets.end()}};
  }
  return {};
}

void SetField(const std::vector<int64_t>& values, Constant constant, LayerAddressing& layer) {
  switch (constant) {
    case Constant::kMultipliers:
      layer.multipliers = values;
      return;
    case Constant::kModuli:
      layer.moduli.assign(values.begin(), values.end());
      return;
    case Constant::kOffsets:
      layer.offsets.assign(values.begin(), values.end());
      return;
  }
}

// Each tensor's place, or the places of its parts in the files of ranks.
std::map<std::string, std::vector<const TensorPlace*>> PlacesOf(const Checkpoint& checkpoint) {
  std::map<std::string, std::vector<const TensorPlace*>> places;
  for (const auto& [name, tensor] : checkpoint.tensors()) places[name] = {&tensor};
  for (const auto& [name, parts] : checkpoint.rank_parts()) {
    for (const TensorPlace& part : parts) places[name].push_back(&part);
  }
  return places;
}

// Where the table sizes are stored and the offsets are not, these follow from those.
void FollowModuli(LayerAddressing& layer) {
  uint64_t offset = 0;
  for (size_t c = 0; c < layer.moduli.size(); ++c) {
    layer.offsets[c] = offset;
    offset += layer.moduli[c];
  }
}

// Of ranks each has a copy of all: what the first one gave is what the next is held against.
absl::Status CompareOne(const Family& family, const std::vector<const TensorPlace*>& copies,
                        Constant constant, bool take_stored, LayerAddressing& layer) {
  for (const TensorPlace* tensor : copies) {
    const Field made = FieldOf(layer, constant);
    ENGRAM_ASSIGN_OR_RETURN(const std::vector<int64_t> stored,
                            ReadNumbers(*tensor, made.values.size(), made.meaning));
    if (stored == made.values) continue;
    if (take_stored && tensor == copies[0]) {
      SetField(stored, constant, layer);
      continue;
    }
    const std::string values = absl::StrCat("[", absl::StrJoin(made.values, ", "), "], which are ",
                                            made.meaning, " of layer ", layer.layer);
    return Refuse(
        *tensor, absl::StrCat("[", absl::StrJoin(stored, ", "), "]"),
        take_stored
            ? absl::StrCat(values, " in ", copies[0]->file)
            : absl::StrCat(values, " by the recipe of ", family.name,
                           ": is config.json this model's? --use-stored-constants takes the "
                           "tensor's"));
  }
  return absl::OkStatus();
}

}  // namespace

WantedTensor ConstantTensors(const Family& family) {
  return [&family](absl::string_view name) {
    const std::optional<ModuleName> module = ParseModule(family, name);
    return module && ConstantOf(*module);
  };
}

WantedTensor OtherTables(const Family& family, const AddressScheme& scheme) {
  return [&family, &scheme](absl::string_view name) {
    const std::optional<ModuleName> module = ParseModule(family, name);
    if (module && IsTable(*module)) return scheme.FindLayer(module->layer) == nullptr;
    const std::optional<uint32_t> column = ColumnOf(family, name);
    return column && *column >= scheme.Columns();
  };
}

absl::Status CheckNoOtherTables(const Family& family, const AddressScheme& scheme,
                                const Checkpoint& checkpoint) {
  const auto layer_number = [](std::string* out, const LayerAddressing& layer) {
    absl::StrAppend(out, layer.layer);
  };
  for (const auto& [name, places] : PlacesOf(checkpoint)) {
    const std::string tensor =
        absl::StrCat("(the tensor ", QuoteForMessage(name), " in ", places[0]->file, ")");
    const std::optional<ModuleName> module = ParseModule(family, name);
    if (module && scheme.FindLayer(module->layer) == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat("the checkpoint holds a table of layer ", module->layer, " ", tensor,
                       ", but the layers that have tables are ",
                       absl::StrJoin(scheme.layers, ", ", layer_number),
                       ", counted from 0: it would be left out; is --family the right one?"));
    }
    const std::optional<uint32_t> column = ColumnOf(family, name);
    if (column && *column >= scheme.Columns()) {
      return absl::FailedPreconditionError(
          absl::StrCat("the checkpoint holds a table of column ", *column, " ", tensor,
                       ", but there are ", scheme.Columns(), " columns, ", scheme.heads_per_order,
                       " heads for each n-gram length of 2..", scheme.max_order,
                       ": it would be left out; is --family the right one?"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> CompareStoredConstants(const Family& family,
                                                                const Checkpoint& checkpoint,
                                                                bool take_stored,
                                                                AddressScheme& scheme) {
  std::map<std::pair<uint32_t, Constant>, std::string> found;
  for (const auto& [name, places] : PlacesOf(checkpoint)) {
    const std::optional<ModuleName> module = ParseModule(family, name);
    const std::optional<Constant> constant = module ? ConstantOf(*module) : std::nullopt;
    if (!constant) continue;
    const auto layer = absl::c_find_if(
        scheme.layers, [&](const LayerAddressing& each) { return each.layer == module->layer; });
    if (layer == scheme.layers.end()) continue;  // CheckNoOtherTables refuses it
    const auto [twin, is_new] = found.try_emplace({layer->layer, *constant}, name);
    if (!is_new) {
      return Refuse(*places[0], "the second with constants of its kind",
                    absl::StrCat("one: ", QuoteForMessage(twin->second), " is there as well"));
    }
    ENGRAM_RETURN_IF_ERROR(CompareOne(family, places, *constant, take_stored, *layer));
  }
  std::vector<std::string> names;
  for (LayerAddressing& layer : scheme.layers) {
    if (found.contains({layer.layer, Constant::kModuli}) &&
        !found.contains({layer.layer, Constant::kOffsets})) {
      FollowModuli(layer);
    }
  }
  for (auto& [key, name] : found) names.push_back(std::move(name));
  if (take_stored && names.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("--use-stored-constants: the checkpoint ", checkpoint.directory(),
                     " has no tensor that holds constants of the address scheme"));
  }
  if (!take_stored) return names;
  if (absl::Status valid = Validate(scheme); !valid.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("--use-stored-constants: the constants stored in ", absl::StrJoin(names, ", "),
                     " make no ", valid.message()));
  }
  return names;
}

}  // namespace engram
