#include "memstore/pack/gguf/pack_gguf.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/base/human_units.h"
#include "memstore/base/plain_name.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/gguf/model.h"
#include "memstore/pack/checkpoint_scheme.h"
#include "memstore/pack/gguf/gguf_scheme.h"
#include "memstore/pack/named_rows.h"
#include "memstore/pack/pack_checkpoint.h"
#include "memstore/pack/pack_synthetic.h"
#include "memstore/pack/provenance.h"
#include "memstore/recipe/gguf_keys.h"
#include "memstore/safetensors/checkpoint_files.h"
#include "memstore/table/side_files.h"

namespace engram {
namespace {

constexpr char kFlag[] = "--gguf-tensor";
// Of tensors that may be the table, in the message that none has a known name.
constexpr size_t kMaxGuesses = 3;
// What a converter calls rows of 256 E4M3 bytes and 8 E8M0 bytes, and a table that another tool is
// at work on.
constexpr absl::string_view kReleasedV41 = "e4m3_e8m0_32_row264";
constexpr absl::string_view kUnderWay = "conversion_underway";

// The names that converters give to tables; one tensor a column where there are columns.
struct KnownName {
  const char* name;
  bool is_column = false;
};
std::vector<KnownName> KnownNames(ConfigKeys keys) {
  switch (keys) {
    case ConfigKeys::kEngram:
      return {{"blk.{layer}.engram_embd.weight"},
              {"blk.{layer}.engram_embed.weight"},
              {"blk.{layer}.engram_mhe.weight"}};
    case ConfigKeys::kPle:
      return {{"per_layer_token_embd.weight"},
              {"blk.{layer}.ple_ngram_embd.weight"},
              {"ple_ngram_embd.{piece}.weight", /*is_column=*/true}};
    case ConfigKeys::kOverEmbedding:
      return {{"ngram_embd.{piece}.weight", /*is_column=*/true}};
  }
  return {};
}

// Rows first. A tensor of one dimension is a value a row, as scales are, where no blocks make a row
// of it.
std::vector<uint64_t> ShapeOf(const GgufTensor& tensor) {
  const bool is_list =
      tensor.shape.size() == 1 && tensor.type != nullptr && tensor.type->block_values == 1;
  if (is_list) return {tensor.RowValues(), 1};
  return {tensor.Rows(), tensor.RowValues()};
}

// The model's tensors as those of other checkpoints.
class GgufTensors {
 public:
  explicit GgufTensors(const GgufModel& model) : model_(model) {
    places_.reserve(model.tensors().size());
    for (const auto& [name, tensor] : model.tensors()) {
      places_.push_back({name, tensor.file,
                         tensor.type == nullptr ? absl::StrCat("type ", tensor.type_number)
                                                : absl::AsciiStrToUpper(tensor.type->name),
                         ShapeOf(tensor), tensor.offset, tensor.bytes});
      source_.tensors[name] = {&places_.back()};
    }
    source_.what = model.files()[0].path;
    source_.looked_at = [&model](const WantedTensor&) {
      return absl::StrCat("the headers of ", Counted(model.files().size(), "file"), " were read");
    };
  }

  const TensorSource& source() const { return source_; }

  // A type of a fork of ggml has rows of unknown length.
  absl::Status CheckTypesAreKnown(const RowNames& names) const {
    for (const auto& [name, tensor] : model_.tensors()) {
      if (tensor.type != nullptr || !names.Means(name)) continue;
      return absl::FailedPreconditionError(
          absl::StrCat("the tensor ", QuoteForMessage(name), " in ", tensor.file, " has the type ",
                       tensor.type_number,
                       ", which this program does not know: convert the table to a type of ggml's "
                       "own"));
    }
    return absl::OkStatus();
  }

  // The longest tables there are, for a message.
  std::string Longest() const {
    std::vector<const TensorPlace*> order;
    order.reserve(places_.size());
    for (const TensorPlace& place : places_) order.push_back(&place);
    const size_t count = std::min(order.size(), kMaxGuesses);
    std::partial_sort(
        order.begin(), order.begin() + static_cast<ptrdiff_t>(count), order.end(),
        [](const TensorPlace* a, const TensorPlace* b) { return a->shape[0] > b->shape[0]; });
    order.resize(count);
    return absl::StrJoin(order, ", ", [](std::string* out, const TensorPlace* place) {
      absl::StrAppend(out, QuoteForMessage(place->name), " (", Describe(*place), ")");
    });
  }

 private:
  const GgufModel& model_;
  std::vector<TensorPlace> places_;
  TensorSource source_;
};

// The tensors that are the table, and whether each is a column of it.
struct TableNamesOfGguf {
  RowNames names;
  bool is_column = false;
};

absl::StatusOr<TableNamesOfGguf> NamesOf(const Family& family, const PackOptions& options,
                                         const GgufTensors& tensors) {
  TableNamesOfGguf found;
  const std::vector<KnownName> known_names = KnownNames(family.config_keys);
  if (!options.rows.empty()) {
    ENGRAM_ASSIGN_OR_RETURN(found.names, RowNames::Parse(options.rows, kFlag));
    // What is joined with columns row by row is cut as they are.
    found.is_column = absl::c_any_of(known_names, [&](const KnownName& known) {
      return known.is_column && absl::c_linear_search(options.rows, known.name);
    });
    return found;
  }
  std::vector<std::string> looked_for;
  std::string first, first_known;
  for (const KnownName& known : known_names) {
    ENGRAM_ASSIGN_OR_RETURN(const RowNames names, RowNames::Parse({known.name}, kFlag));
    looked_for.push_back(known.name);
    const auto& all = tensors.source().tensors;
    const auto meant = std::find_if(all.begin(), all.end(),
                                    [&](const auto& each) { return names.Means(each.first); });
    if (meant == all.end()) continue;
    if (!first.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the tensors ", QuoteForMessage(first), " and ", QuoteForMessage(meant->first), " of ",
          tensors.source().what, " can both be the table: give the one that is with ", kFlag, " ",
          first_known, " or ", kFlag, " ", known.name));
    }
    first = meant->first;
    first_known = known.name;
    found = {names, known.is_column};
  }
  if (!first.empty()) return found;
  return absl::NotFoundError(absl::StrCat(
      tensors.source().what, " has no tensor with a name that tables of the family ", family.name,
      " are known by: ", absl::StrJoin(looked_for, ", "), ". Its longest tensors are ",
      tensors.Longest(), ": give the table's name with ", kFlag));
}

// I8 is bytes: what they are the metadata say, or nothing does.
absl::StatusOr<RowEncoding> EncodingOfBytes(const GgufScheme& model, const TensorPlace& tensor,
                                            uint32_t row_bytes, const NoteFunction& note) {
  RowEncoding released = ReleasedEncoding(model.family);
  const bool is_released = model.family.scale_per_row && EncodedRowBytes(released) == row_bytes;
  if (model.encoding == kUnderWay) {
    return absl::FailedPreconditionError(
        absl::StrCat(model.encoding_source, " is ", model.encoding,
                     ": a tool is re-encoding the table in place, and some rows are not what "
                     "others are; let it finish"));
  }
  if (model.encoding == kReleasedV41) {
    if (is_released) return released;
    return DoesNotFit(tensor, absl::StrCat("rows of ", EncodedRowBytes(released), " bytes, as ",
                                           model.encoding_source, " is ", model.encoding));
  }
  if (!model.encoding.empty()) {
    ENGRAM_RETURN_IF_ERROR(CheckPlainName(model.encoding, model.encoding_source));
    if (IsKindName(model.encoding)) {
      return DoesNotFit(tensor, absl::StrCat("rows whose values engram knows, as ",
                                             model.encoding_source, " is ", model.encoding,
                                             "; give rows that are packed as they are a name of "
                                             "their own with --encoding NAME"));
    }
    return RowEncoding{RowEncodingKind::kOpaque, model.family.row_dim, 0, model.encoding};
  }
  if (!is_released) {
    return RowEncoding{RowEncodingKind::kOpaque, model.family.row_dim, 0, "gguf_i8"};
  }
  if (note) {
    note(absl::StrCat("note: ", QuoteForMessage(tensor.name), " has rows of ", row_bytes,
                      " bytes, taken as those of ", model.family.name, " (", Name(released.kind),
                      "): no key says what they are; --encoding NAME says otherwise"));
  }
  return released;
}

// What the rows of one tensor are; `tensor` is its first piece.
absl::StatusOr<RowEncoding> EncodingOf(const GgufScheme& model, const TensorPlace& tensor,
                                       uint32_t row_bytes, const NoteFunction& note) {
  if (tensor.dtype == "I8") return EncodingOfBytes(model, tensor, row_bytes, note);
  const uint64_t values = tensor.shape[1];
  const RecipeStatement* const stated = model.stated.Find(RecipeParameter::kRowValues);
  if (stated != nullptr && stated->values[0] != values) {
    return DoesNotFit(tensor, absl::StrCat("rows of ", stated->values[0], " values, as ",
                                           stated->source, " is ", stated->text));
  }
  const auto dim = static_cast<uint32_t>(values);  // a row has at most kMaxRowBytes
  if (dim != model.family.row_dim && note) {
    note(absl::StrCat("note: the rows of ", QuoteForMessage(tensor.name), " have ", dim,
                      " values, ", model.family.name, " has ", model.family.row_dim));
  }
  if (tensor.dtype == "F32") return RowEncoding{RowEncodingKind::kFp32, dim};
  if (tensor.dtype == "F16") return RowEncoding{RowEncodingKind::kFp16, dim};
  if (tensor.dtype == "BF16") return RowEncoding{RowEncodingKind::kBf16, dim};
  return RowEncoding{RowEncodingKind::kOpaque, dim, 0,
                     absl::StrCat("gguf_", absl::AsciiStrToLower(tensor.dtype))};
}

// Of several tensors a row's encoding is all of theirs.
absl::StatusOr<RowEncoding> EncodingOf(const GgufScheme& model, const PackOptions& options,
                                       const CheckpointLayer& layer) {
  RowEncoding encoding = layer.encoding;
  if (!options.encoding.empty()) return encoding;  // it is the label already
  const TensorPlace& first = *layer.parts[0].runs[0].tensor;
  if (layer.parts.size() == 1 && encoding.global_scale == 0) {
    return EncodingOf(model, first, layer.parts[0].row_bytes, options.on_note);
  }
  std::vector<std::string> types;
  types.reserve(layer.parts.size());
  for (const LayerPart& part : layer.parts) {
    types.push_back(absl::AsciiStrToLower(part.runs[0].tensor->dtype));
  }
  encoding.label = absl::StrCat("gguf_", absl::StrJoin(types, "-"));
  return encoding;
}

// What a downloader and a cache of Hugging Face's leave undone.
absl::Status CheckFiles(const std::string& path) {
  for (const std::string& part : GgufPartsOf(path)) {
    ENGRAM_RETURN_IF_ERROR(CheckLinkLeadsSomewhere(part));
    ENGRAM_RETURN_IF_ERROR(CheckDownloadFinished(part));
  }
  return absl::OkStatus();
}

std::map<std::string, std::vector<ByteRange>> StrayOf(const GgufModel& model) {
  std::map<std::string, std::vector<ByteRange>> stray;
  for (const auto& [file, ranges] : model.stray()) {
    for (const GgufByteRange& range : ranges) stray[file].push_back({range.begin, range.end});
  }
  return stray;
}

absl::StatusOr<std::vector<CheckpointLayer>> LayOut(const GgufScheme& model,
                                                    const GgufTensors& tensors,
                                                    const PackOptions& options) {
  ENGRAM_ASSIGN_OR_RETURN(TableNamesOfGguf table, NamesOf(model.family, options, tensors));
  table.names.LearnTables(tensors.source());
  ENGRAM_RETURN_IF_ERROR(tensors.CheckTypesAreKnown(table.names));
  Family family = model.family;
  family.column_tensors |= table.is_column;
  const AddressScheme& scheme = model.scheme.scheme;
  std::vector<CheckpointLayer> layouts;
  for (const LayerAddressing& addressing : scheme.layers) {
    absl::StatusOr<CheckpointLayer> layout =
        LayOutNamedRows(table.names, options.encoding, family, scheme, addressing, tensors.source(),
                        options.on_note);
    if (!layout.ok()) return WithDifferences(layout.status(), model.stated, model.differences);
    ENGRAM_ASSIGN_OR_RETURN(layout->encoding, EncodingOf(model, options, *layout));
    layouts.push_back(*std::move(layout));
  }
  return layouts;
}

}  // namespace

absl::StatusOr<Manifest> PackGguf(const Family& family, const PackOptions& options) {
  ENGRAM_RETURN_IF_ERROR(CheckFiles(options.gguf_file));
  ENGRAM_ASSIGN_OR_RETURN(const GgufModel gguf,
                          GgufModel::Open(options.gguf_file, IsGgufRecipeKey));
  ENGRAM_ASSIGN_OR_RETURN(const GgufScheme model, ReadGgufScheme(family, gguf, options));
  const GgufTensors tensors(gguf);
  ENGRAM_ASSIGN_OR_RETURN(const std::vector<CheckpointLayer> layouts,
                          LayOut(model, tensors, options));
  std::set<std::string> looked_at;
  for (const CheckpointLayer& layout : layouts) {
    WarnOfOddBytes(StrayOf(gguf), layout, options.on_note, looked_at);
  }
  if (options.on_note) {
    for (const std::string& note : model.notes) options.on_note(absl::StrCat("note: ", note));
  }
  Provenance source = MakeProvenance(kGgufSource, options.gguf_file, options);
  const std::filesystem::path folder = std::filesystem::path(options.gguf_file).parent_path();
  ENGRAM_ASSIGN_OR_RETURN(source.read_from, FilesOf(folder.empty() ? "." : folder.string(),
                                                    model.scheme.scheme, layouts));
  FilesAsRead files;
  for (const GgufFile& file : gguf.files()) files.emplace(file.path, file.as_read);
  return PackLayers(model.family, options, model.scheme, layouts,
                    SourceSideFiles(source, model.image_token_ids), files);
}

}  // namespace engram
