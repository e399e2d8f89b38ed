#include "memstore/pack/gguf/gguf_scheme.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/pack/checkpoint_scheme.h"
#include "memstore/recipe/gguf_keys.h"

namespace engram {
namespace {

// A message that lists more is not read.
constexpr size_t kMaxListed = 8;
constexpr uint64_t kMaxTokenMapBytes = uint64_t{4} * kMaxGgufNumbers;

// The bytes of a token map, as its file has them.
absl::StatusOr<std::string> MapBytes(const StoredNumbers& map) {
  std::string bytes(map.values.size() * sizeof(int32_t), '\0');
  for (size_t i = 0; i < map.values.size(); ++i) {
    const int64_t value = map.values[i];
    if (value < 0 || value > INT32_MAX) {
      return absl::FailedPreconditionError(absl::StrCat(map.source, " maps the id ", i, " to ",
                                                        value, ", which is no compressed id"));
    }
    const auto id = static_cast<int32_t>(value);
    std::memcpy(bytes.data() + i * sizeof(id), &id, sizeof(id));
  }
  return bytes;
}

// The map that is given must be the stored one.
absl::Status CompareMap(const std::string& stored, const std::string& source,
                        const std::string& given_file) {
  ENGRAM_ASSIGN_OR_RETURN(const std::string given, ReadWholeFile(given_file, kMaxTokenMapBytes));
  if (given == stored) return absl::OkStatus();
  const auto id_at = [](const std::string& bytes, size_t i) {
    int32_t id;
    std::memcpy(&id, bytes.data() + i * sizeof(id), sizeof(id));
    return id;
  };
  const size_t both = std::min(given.size(), stored.size()) / sizeof(int32_t);
  size_t i = 0;
  while (i < both && id_at(given, i) == id_at(stored, i)) ++i;
  const std::string where = i < both
                                ? absl::StrCat("the first ones map the id ", i, " to ",
                                               id_at(given, i), " and to ", id_at(stored, i))
                                : absl::StrCat("they have ", given.size() / sizeof(int32_t),
                                               " and ", stored.size() / sizeof(int32_t), " ids");
  return absl::FailedPreconditionError(
      absl::StrCat("--token-map ", given_file, " is not the token map that ", source,
                   " holds: ", where, ". Leave --token-map out if the model's is right"));
}

// The map that the metadata store, as the one to pack with; its size is one more statement.
absl::Status TakeStoredMap(const Family& family, const GgufKeysReport& report, StatedRecipe& stated,
                           PackOptions& options) {
  if (family.compressed_vocab_size == 0 || !report.token_map) return absl::OkStatus();
  const StoredNumbers& map = *report.token_map;
  ENGRAM_ASSIGN_OR_RETURN(std::string bytes, MapBytes(map));
  if (!options.token_map_file.empty()) {
    ENGRAM_RETURN_IF_ERROR(CompareMap(bytes, map.source, options.token_map_file));
  }
  const int64_t highest = *std::max_element(map.values.begin(), map.values.end());
  options.token_map_file.clear();
  options.made_token_map = MadeMap{std::move(bytes), map.source};
  return stated.State(RecipeParameter::kCompressedVocabSize,
                      {{static_cast<uint64_t>(highest) + 1},
                       absl::StrCat("the number of compressed ids of ", map.source),
                       absl::StrCat(highest + 1)});
}

// One kind of constants, layer after layer.
struct Field {
  const char* meaning;
  const std::optional<StoredNumbers>* stored;
  std::vector<int64_t> (*get)(const LayerAddressing&);
  void (*set)(std::vector<int64_t>, LayerAddressing&);
};

std::vector<Field> FieldsOf(const GgufKeysReport& report) {
  return {{"the hash multipliers", &report.multipliers,
           [](const LayerAddressing& layer) { return layer.multipliers; },
           [](std::vector<int64_t> values, LayerAddressing& layer) {
             layer.multipliers = std::move(values);
           }},
          {"the heads' table sizes", &report.moduli,
           [](const LayerAddressing& layer) {
             return std::vector<int64_t>(layer.moduli.begin(), layer.moduli.end());
           },
           [](std::vector<int64_t> values, LayerAddressing& layer) {
             layer.moduli.assign(values.begin(), values.end());
             uint64_t offset = 0;  // unless they are stored as well
             for (size_t c = 0; c < layer.moduli.size(); ++c) {
               layer.offsets[c] = offset;
               offset += layer.moduli[c];
             }
           }},
          {"the heads' first rows", &report.offsets,
           [](const LayerAddressing& layer) {
             return std::vector<int64_t>(layer.offsets.begin(), layer.offsets.end());
           },
           [](std::vector<int64_t> values, LayerAddressing& layer) {
             layer.offsets.assign(values.begin(), values.end());
           }}};
}

absl::Status CompareField(const Field& field, const Family& family, bool take_stored,
                          AddressScheme& scheme) {
  const StoredNumbers& stored = **field.stored;
  std::vector<int64_t> made;
  for (const LayerAddressing& layer : scheme.layers) {
    const std::vector<int64_t> values = field.get(layer);
    made.insert(made.end(), values.begin(), values.end());
  }
  if (stored.values == made) return absl::OkStatus();
  if (stored.values.size() != made.size()) {
    return absl::FailedPreconditionError(
        absl::StrCat(stored.source, " has ", stored.values.size(), " numbers, expected ",
                     made.size(), ", which are ", field.meaning, " of ", scheme.layers.size(),
                     " layers by the recipe of ", family.name, ": is --family the model's?"));
  }
  const size_t each = made.size() / scheme.layers.size();
  if (take_stored) {
    for (size_t i = 0; i < scheme.layers.size(); ++i) {
      const auto first = stored.values.begin() + static_cast<ptrdiff_t>(i * each);
      field.set({first, first + static_cast<ptrdiff_t>(each)}, scheme.layers[i]);
    }
    return absl::OkStatus();
  }
  size_t i = 0;
  while (stored.values[i] == made[i]) ++i;
  return absl::FailedPreconditionError(
      absl::StrCat(stored.source, " has ", stored.values[i], " at place ", i, ", expected ",
                   made[i], ", which is among ", field.meaning, " of layer ",
                   scheme.layers[i / each].layer, " by the recipe of ", family.name,
                   ": for a table of another size give its base size with --rows-per-head; "
                   "--use-stored-constants takes the file's"));
}

absl::StatusOr<std::vector<std::string>> CompareConstants(const GgufKeysReport& report,
                                                          const Family& family, bool take_stored,
                                                          AddressScheme& scheme) {
  std::vector<std::string> sources;
  for (const Field& field : FieldsOf(report)) {
    if (!*field.stored) continue;
    ENGRAM_RETURN_IF_ERROR(CompareField(field, family, take_stored, scheme));
    sources.push_back((*field.stored)->source);
  }
  if (!take_stored) return sources;
  if (sources.empty()) {
    return absl::FailedPreconditionError(
        "--use-stored-constants: the metadata hold no constants of the address scheme");
  }
  const absl::Status valid = Validate(scheme);
  if (valid.ok()) return sources;
  return absl::FailedPreconditionError(absl::StrCat("--use-stored-constants: the constants in ",
                                                    absl::StrJoin(sources, ", "), " make no ",
                                                    valid.message()));
}

absl::Status ComparePad(const GgufKeysReport& report, const Family& family,
                        const AddressScheme& scheme) {
  for (const auto* const stored : {&report.pad, &report.compressed_pad}) {
    if (!stored->has_value()) continue;
    const std::vector<int64_t>& pad = (*stored)->values;
    // Under the plain name converters store the token or, more often, what it is compressed to.
    const bool may_be_token = stored == &report.pad;
    if (pad.size() == 1 && (pad[0] == scheme.pad_id || (may_be_token && pad[0] == family.pad_id))) {
      continue;
    }
    return absl::FailedPreconditionError(
        absl::StrCat((*stored)->source, " is ", absl::StrJoin(pad, ", "), ", expected ",
                     scheme.pad_id, ", to which the token id ", family.pad_id,
                     " that stands in before the start is compressed in the family ", family.name,
                     ": is --family the model's?"));
  }
  return absl::OkStatus();
}

std::vector<std::string> Notes(const GgufKeysReport& report, const GgufScheme& made,
                               const GgufModel& model, const std::vector<std::string>& constants,
                               bool took_stored) {
  std::vector<std::string> notes;
  if (report.keys == 0) {
    notes.push_back(absl::StrCat("the metadata were not compared: ", model.files()[0].path,
                                 " holds no key of the family ", made.family.name,
                                 "; the constants are those of ", made.family.name));
  }
  if (!report.unread.empty()) {
    const size_t count = std::min(report.unread.size(), kMaxListed);
    notes.push_back(
        absl::StrCat("keys of the metadata that this program does not know: ",
                     absl::StrJoin(report.unread.begin(),
                                   report.unread.begin() + static_cast<ptrdiff_t>(count), ", "),
                     count < report.unread.size() ? " and more" : ""));
  }
  notes.insert(notes.end(), made.differences.begin(), made.differences.end());
  if (took_stored) {
    notes.push_back(absl::StrCat("the constants are those that the metadata store in ",
                                 absl::StrJoin(constants, ", ")));
  }
  return notes;
}

}  // namespace

absl::StatusOr<GgufScheme> ReadGgufScheme(const Family& family, const GgufModel& model,
                                          const PackOptions& options) {
  ENGRAM_RETURN_IF_ERROR(CheckPackOptions(family, options));
  GgufScheme made;
  ENGRAM_RETURN_IF_ERROR(StateFlags(options, made.stated));
  ENGRAM_ASSIGN_OR_RETURN(const GgufKeysReport report, ReadGgufKeys(model, family, made.stated));
  PackOptions derived = options;
  derived.rows_per_head = 0;  // it is among what is stated
  ENGRAM_RETURN_IF_ERROR(TakeStoredMap(family, report, made.stated, derived));
  ENGRAM_ASSIGN_OR_RETURN(made.family, made.stated.Apply(family));
  made.differences = made.stated.Differences(family);
  absl::StatusOr<PackScheme> scheme = MakePackScheme(made.family, derived);
  if (!scheme.ok()) return WithDifferences(scheme.status(), made.stated, made.differences);
  made.scheme = *std::move(scheme);
  if (made.scheme.token_map) {
    ENGRAM_RETURN_IF_ERROR(
        made.stated.CheckTokenMapLength(made.scheme.token_map->compressed().size()));
  }
  AddressScheme& addresses = made.scheme.scheme;
  ENGRAM_RETURN_IF_ERROR(ComparePad(report, made.family, addresses));
  const absl::StatusOr<std::vector<std::string>> constants =
      CompareConstants(report, made.family, options.use_stored_constants, addresses);
  if (!constants.ok()) return WithDifferences(constants.status(), made.stated, made.differences);
  ENGRAM_RETURN_IF_ERROR(
      WithDifferences(made.stated.CheckLayerRows(addresses), made.stated, made.differences));
  made.notes = Notes(report, made, model, *constants, options.use_stored_constants);
  if (made.scheme.token_map) {
    std::string note = made.stated.NoteOnTokenMap(made.scheme.token_map->compressed().size());
    if (!note.empty()) made.notes.push_back(std::move(note));
  }
  made.encoding = report.encoding;
  made.encoding_source = report.encoding_source;
  made.image_token_ids.assign(report.image_token_ids.begin(), report.image_token_ids.end());
  const bool is_of_family = made.differences.empty() && !options.use_stored_constants;
  if (made.image_token_ids.empty() && is_of_family) made.image_token_ids = family.image_token_ids;
  return made;
}

}  // namespace engram
