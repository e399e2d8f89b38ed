#include "memstore/pack/named_rows.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/pack/stored_constants.h"
#include "memstore/recipe/checkpoint_config.h"

namespace engram {
namespace {

constexpr absl::string_view kLayerMark = "{layer}";
constexpr absl::string_view kPieceMark = "{piece}";
// What stands before a layer's number in a tensor's name.
constexpr absl::string_view kLayerWords[] = {"layers", "blk", "blocks", "h"};
// A note that lists more is not read.
constexpr size_t kMaxBesideSaid = 8;

// The number at the front of `text`, which is taken off.
std::optional<uint32_t> TakeNumber(absl::string_view& text) {
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(text[digits])) ++digits;
  uint32_t number = 0;
  if (digits == 0 || !absl::SimpleAtoi(text.substr(0, digits), &number)) return std::nullopt;
  text.remove_prefix(digits);
  return number;
}

// Whether `text` is what `name` says, from its first character to the last, or with `prefix` up to
// a dot.
bool Matches(absl::string_view name, absl::string_view text, bool prefix, RowNames::Hit& hit) {
  while (!name.empty()) {
    std::optional<uint32_t>* number = absl::ConsumePrefix(&name, kLayerMark)   ? &hit.layer
                                      : absl::ConsumePrefix(&name, kPieceMark) ? &hit.piece
                                                                               : nullptr;
    if (number != nullptr) {
      if (!(*number = TakeNumber(text))) return false;
      continue;
    }
    if (text.empty() || text[0] != name[0]) return false;
    name.remove_prefix(1);
    text.remove_prefix(1);
  }
  return text.empty() || (prefix && text[0] == '.');
}

// The same from any dot of `text` on. What lies in another model is not meant by the end of a name.
std::optional<RowNames::Hit> FindEnd(absl::string_view name, absl::string_view text, bool prefix) {
  for (size_t at = 0; at < text.size(); ++at) {
    if (at > 0 && text[at - 1] != '.') continue;
    RowNames::Hit hit;
    if (!Matches(name, text.substr(at), prefix, hit)) continue;
    hit.before = std::string(text.substr(0, at));
    if (IsOfOtherModel(hit.before)) return std::nullopt;
    return hit;
  }
  return std::nullopt;
}

size_t CountOf(absl::string_view text, absl::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != absl::string_view::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

// Down to the table: without the last part of the name, or what begins with the piece.
std::string StemOf(absl::string_view name) {
  const size_t piece = name.find(kPieceMark);
  const size_t dot = name.rfind('.', piece);
  return std::string(dot == absl::string_view::npos ? absl::string_view() : name.substr(0, dot));
}

// What follows the first `dots` dots; nothing where there are fewer.
absl::string_view Below(absl::string_view name, size_t dots) {
  for (; dots > 0; --dots) {
    const size_t dot = name.find('.');
    if (dot == absl::string_view::npos) return "";
    name.remove_prefix(dot + 1);
  }
  return name;
}

// Whether a tensor that is called so below a table's name is of that table. What lies deeper is
// another module's, but for a piece's own: "shard_3.bias".
bool IsOfTable(absl::string_view below) {
  if (below.empty()) return false;  // the table's own name
  const std::vector<absl::string_view> parts = absl::StrSplit(below, '.');
  return parts.size() == 1 || (parts.size() == 2 && absl::c_any_of(parts[0], absl::ascii_isdigit));
}

// The layer that a tensor's name states by itself: the last of them.
std::optional<uint32_t> LayerIn(absl::string_view tensor) {
  std::optional<uint32_t> layer;
  const std::vector<absl::string_view> parts = absl::StrSplit(tensor, '.');
  for (size_t i = 1; i < parts.size(); ++i) {
    if (std::find(std::begin(kLayerWords), std::end(kLayerWords), parts[i - 1]) ==
        std::end(kLayerWords)) {
      continue;
    }
    absl::string_view text = parts[i];
    const std::optional<uint32_t> number = TakeNumber(text);
    if (number && text.empty()) layer = number;
  }
  return layer;
}

// What is said of it, or what it states.
std::optional<uint32_t> LayerOf(absl::string_view tensor, const RowNames::Hit& hit) {
  return hit.layer ? hit.layer : LayerIn(tensor);
}

uint64_t Elements(const TensorPlace& tensor) {
  uint64_t elements = 1;  // no overflow: the tensor's bytes were compared with its shape
  for (const uint64_t size : tensor.shape) elements *= size;
  return elements;
}

// Lays the named tensors of one layer out.
class NamedLayer {
 public:
  NamedLayer(const RowNames& names, const Family& family, const AddressScheme& scheme,
             const LayerAddressing& layer, const TensorSource& source, const NoteFunction& note)
      : names_(names),
        family_(family),
        scheme_(scheme),
        layer_(layer),
        source_(source),
        note_(note) {}

  absl::StatusOr<CheckpointLayer> LayOut(const std::string& encoding) {
    CheckpointLayer out;
    out.encoding = {RowEncodingKind::kOpaque, family_.row_dim, 0, encoding};
    std::vector<std::string> widths;
    uint64_t row_bytes = 0;
    for (size_t i = 0; i < names_.names().size(); ++i) {
      ENGRAM_ASSIGN_OR_RETURN(const TensorsOfTable table, FindTable(i));
      const TensorPlace& first = *table.pieces.begin()->second[0];
      if (IsScale(table)) {
        ENGRAM_RETURN_IF_ERROR(TakeScale(table, out.encoding));
        continue;
      }
      ENGRAM_ASSIGN_OR_RETURN(LayerPart part, LayPart(table, out.parts.empty()));
      widths.push_back(absl::StrCat(QuoteForMessage(first.name), " (", part.row_bytes, ")"));
      row_bytes += part.row_bytes;
      out.parts.push_back(std::move(part));
    }
    if (out.parts.empty() || row_bytes < kMinRowBytes || row_bytes > kMaxRowBytes) {
      return absl::FailedPreconditionError(absl::StrCat(
          "a row of layer ", layer_.layer, " would have ", row_bytes, " bytes, of ",
          absl::StrJoin(widths, ", "), ": it must have ", kMinRowBytes, "..", kMaxRowBytes));
    }
    SayWhatLiesBeside();
    return out;
  }

 private:
  // The tensors of this layer that a name means.
  absl::StatusOr<TensorsOfTable> FindTable(size_t name) {
    const std::string& said = names_.names()[name];
    TensorsOfTable table;
    table.in_pieces = absl::StrContains(said, kPieceMark);
    std::map<uint32_t, std::string> before;  // by piece
    for (const auto& [tensor, hit] : HitsOf(name)) {
      ENGRAM_ASSIGN_OR_RETURN(const bool is_mine, IsOfThisLayer(said, tensor, hit));
      if (!is_mine) continue;
      const auto [at, is_new] =
          table.pieces.emplace(hit.piece.value_or(0), source_.tensors.at(tensor));
      if (!is_new) return BothEndIn(said, at->second[0]->name, tensor);
      before[at->first] = hit.before;
    }
    if (table.pieces.empty()) return NotFound(said);
    return CheckPieces(said, before, std::move(table));
  }

  // By tensor, of every layer. In a layer where a tensor has the whole name that one is meant,
  // whatever else ends so; one that is of no layer is meant everywhere.
  std::map<std::string, RowNames::Hit> HitsOf(size_t name) const {
    std::map<std::string, RowNames::Hit> hits;
    std::set<std::optional<uint32_t>> whole;  // the layers where a tensor has the whole name
    for (const auto& [tensor, places] : source_.tensors) {
      const std::optional<RowNames::Hit> hit = names_.Find(name, tensor);
      if (!hit) continue;
      if (hit->before.empty()) whole.insert(LayerOf(tensor, *hit));
      hits.emplace(tensor, *hit);
    }
    if (whole.empty()) return hits;
    std::erase_if(hits, [&](const auto& each) {
      const auto& [tensor, hit] = each;
      const std::optional<uint32_t> layer = LayerOf(tensor, hit);
      const bool is_of_another_layer = layer && scheme_.FindLayer(*layer) != nullptr &&
                                       whole.count(layer) == 0 && whole.count(std::nullopt) == 0;
      return !hit.before.empty() && !is_of_another_layer;
    });
    return hits;
  }

  absl::StatusOr<TensorsOfTable> CheckPieces(const std::string& said,
                                             const std::map<uint32_t, std::string>& before,
                                             TensorsOfTable table) const {
    const TensorPlace& first = *table.pieces.begin()->second[0];
    uint32_t expected = 0;
    for (const auto& [piece, places] : table.pieces) {
      if (before.at(piece) != before.begin()->second) {
        return BothEndIn(said, first.name, places[0]->name);
      }
      if (piece == expected++) continue;
      return absl::NotFoundError(absl::StrCat(source_.what, " lacks piece ", expected - 1, " of ",
                                              QuoteForMessage(said), ": it has ",
                                              table.pieces.size(), " of the pieces 0 to ",
                                              table.pieces.rbegin()->first, "; ", LookedAt()));
    }
    if (!table.in_pieces) {
      table.stem = first.name;
      return table;
    }
    const std::string stem = StemOf(said);
    table.stem = before.begin()->second + stem;
    table.form = said.substr(stem.empty() ? 0 : stem.size() + 1);
    table.stem = absl::StrReplaceAll(table.stem, {{kLayerMark, absl::StrCat(layer_.layer)}});
    return table;
  }

  absl::StatusOr<bool> IsOfThisLayer(const std::string& said, const std::string& tensor,
                                     const RowNames::Hit& hit) const {
    const std::optional<uint32_t> layer = LayerOf(tensor, hit);
    if (layer) {
      if (scheme_.FindLayer(*layer) != nullptr) return *layer == layer_.layer;
      return absl::FailedPreconditionError(absl::StrCat(
          "the tensor ", QuoteForMessage(tensor), ", which ", QuoteForMessage(said), " of ",
          names_.flag(), " means, is of layer ", *layer, ", and the layers that have tables are ",
          absl::StrJoin(scheme_.layers, ", ",
                        [](std::string* out, const LayerAddressing& each) {
                          absl::StrAppend(out, each.layer);
                        }),
          ", counted from 0: give a longer end of the name"));
    }
    if (scheme_.layers.size() == 1) return true;
    return absl::FailedPreconditionError(absl::StrCat(
        "the tensor ", QuoteForMessage(tensor), " states no layer, and there are ",
        scheme_.layers.size(), ": put {layer} where ", names_.flag(), " has its number"));
  }

  absl::Status BothEndIn(const std::string& said, const std::string& one,
                         const std::string& other) const {
    return absl::FailedPreconditionError(
        absl::StrCat("the tensors ", QuoteForMessage(one), " and ", QuoteForMessage(other),
                     " both end in ", QuoteForMessage(said), ", and which of them ", names_.flag(),
                     " means can't be told: give a longer end, or the whole name"));
  }

  absl::Status NotFound(const std::string& said) const {
    return absl::NotFoundError(absl::StrCat(
        source_.what, " lacks rows of layer ", layer_.layer, ": no tensor's name there is ",
        QuoteForMessage(said), " or ends in ", QuoteForMessage(absl::StrCat(".", said)), " (",
        names_.flag(), "); ", LookedAt()));
  }

  std::string LookedAt() const {
    return source_.looked_at([this](absl::string_view name) { return names_.Means(name); });
  }

  bool IsScale(const TensorsOfTable& table) const {
    for (const auto& [piece, places] : table.pieces) {
      for (const TensorPlace* place : places) {
        if (Elements(*place) != 1) return false;
      }
    }
    return layer_.Rows() > 1;
  }

  absl::Status TakeScale(const TensorsOfTable& table, RowEncoding& encoding) const {
    const TensorPlace& tensor = *table.pieces.begin()->second[0];
    if (encoding.global_scale != 0) {
      return DoesNotFit(tensor,
                        "rows: a scale of the whole table was named before, and an encoding has "
                        "one; leave out what is not the table's");
    }
    ENGRAM_ASSIGN_OR_RETURN(encoding.global_scale, ReadGlobalScale(table));
    if (note_) {
      note_(absl::StrCat("note: ", QuoteForMessage(tensor.name), " is one value, ",
                         encoding.global_scale,
                         ": it is the scale of the whole table and stands in its encoding"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<LayerPart> LayPart(const TensorsOfTable& table, bool is_first) {
    LayerPart part;
    uint64_t stored = 0;
    std::vector<Places> pieces;
    const TensorPlace& first = *table.pieces.begin()->second[0];
    for (const auto& [piece, places] : table.pieces) {
      for (const TensorPlace* place : places) {
        ENGRAM_RETURN_IF_ERROR(CheckWidth(*place, first));
        stored += std::min(place->shape[0], UINT64_MAX - stored);
        row_counts_.insert(place->shape[0]);
      }
      pieces.push_back(places);
    }
    if (is_first) {
      stored_rows_ = stored;
      first_name_ = first.name;
    }
    if (stored != stored_rows_) {
      return absl::FailedPreconditionError(absl::StrCat(
          QuoteForMessage(first_name_), " has ", stored_rows_, " rows and ",
          QuoteForMessage(first.name), " in ", first.file, ", which is ", Describe(first), ", has ",
          stored,
          ": they are joined row by row and must have as many; are both of one table, and "
          "whole?"));
    }
    part.row_bytes = static_cast<uint32_t>(first.bytes / first.shape[0]);
    ENGRAM_ASSIGN_OR_RETURN(part.runs,
                            LayRows(family_, layer_, table, pieces,
                                    is_first ? PaddingFill::kAnyRow : PaddingFill::kZeros, note_));
    return part;
  }

  // [rows, ...], rows of whole bytes, the same as of the first piece.
  absl::Status CheckWidth(const TensorPlace& tensor, const TensorPlace& first) const {
    if (tensor.shape.empty() || tensor.shape[0] == 0 || tensor.bytes == 0) {
      return DoesNotFit(tensor, "rows");
    }
    if (tensor.bytes % tensor.shape[0] != 0) {
      return DoesNotFit(tensor, "a whole number of bytes in a row");
    }
    if (tensor.bytes / tensor.shape[0] > kMaxRowBytes) {
      return DoesNotFit(
          tensor, absl::StrCat("[rows, ...] with at most ", kMaxRowBytes,
                               " bytes in a row, and there are ", tensor.bytes / tensor.shape[0]));
    }
    std::vector<uint64_t> row = tensor.shape, first_row = first.shape;
    row[0] = first_row[0] = 0;
    if (row == first_row && tensor.dtype == first.dtype) return absl::OkStatus();
    return DoesNotFit(tensor, absl::StrCat("rows as ", QuoteForMessage(first.name),
                                           " has, which is ", Describe(first)));
  }

  // Scales, zero points and the like that were not named.
  void SayWhatLiesBeside() const {
    if (!note_) return;
    const WantedTensor constants = ConstantTensors(family_);
    std::vector<std::string> beside;
    for (const auto& [tensor, places] : source_.tensors) {
      const TensorPlace& place = *places[0];
      const std::optional<uint32_t> layer = LayerIn(tensor);
      if (names_.Means(tensor) || !names_.IsBeside(tensor) || constants(tensor) ||
          (layer && *layer != layer_.layer)) {
        continue;
      }
      const bool has_rows = !place.shape.empty() && row_counts_.count(place.shape[0]) > 0;
      if (has_rows || Elements(place) == 1) {
        beside.push_back(absl::StrCat(QuoteForMessage(tensor), " (", Describe(place), ")"));
      }
    }
    if (beside.empty()) return;
    const size_t count = beside.size();
    beside.resize(std::min(count, kMaxBesideSaid));
    note_(absl::StrCat(
        "note: beside the tensors of ", names_.flag(), " lie ", absl::StrJoin(beside, ", "),
        count > kMaxBesideSaid ? absl::StrCat(" and ", count - kMaxBesideSaid, " more") : "",
        ", which are not in the rows: name them as well if the rows mean nothing "
        "without them"));
  }

  const RowNames& names_;
  const Family& family_;
  const AddressScheme& scheme_;
  const LayerAddressing& layer_;
  const TensorSource& source_;
  const NoteFunction& note_;
  uint64_t stored_rows_ = 0;  // of the first tensor that has rows
  std::string first_name_;
  std::set<uint64_t> row_counts_;  // of the tensors, whole or pieces
};

}  // namespace

absl::StatusOr<RowNames> RowNames::Parse(const std::vector<std::string>& names,
                                         absl::string_view flag) {
  RowNames parsed;
  parsed.flag_ = std::string(flag);
  const auto refuse = [&](const std::string& name, absl::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " names \"", QuoteForMessage(name), "\": ", why));
  };
  if (names.size() > kMaxNamedTensors) {
    return refuse(names.back(), absl::StrCat("there are ", names.size(), " names, at most ",
                                             kMaxNamedTensors, " tensors are joined"));
  }
  for (const std::string& name : names) {
    if (name.empty() || absl::StartsWith(name, ".")) {
      return refuse(name, "give the name of a tensor, or its end from behind a dot on");
    }
    if (CountOf(name, kLayerMark) > 1 || CountOf(name, kPieceMark) > 1 ||
        CountOf(name, "{") != CountOf(name, kLayerMark) + CountOf(name, kPieceMark)) {
      return refuse(name, "{layer} and {piece} may stand in it, each once, and no other braces");
    }
    if (std::find(parsed.names_.begin(), parsed.names_.end(), name) != parsed.names_.end()) {
      return refuse(name, "it is named twice");
    }
    parsed.names_.push_back(name);
    parsed.stems_.push_back(StemOf(name));
  }
  return parsed;
}

std::optional<RowNames::Hit> RowNames::Find(size_t name, absl::string_view tensor) const {
  return FindEnd(names_[name], tensor, /*prefix=*/false);
}

bool RowNames::Means(absl::string_view tensor) const {
  for (size_t i = 0; i < names_.size(); ++i) {
    if (Find(i, tensor)) return true;
  }
  return false;
}

bool RowNames::IsBeside(absl::string_view tensor) const {
  for (const std::string& stem : stems_) {
    const std::optional<Hit> hit =
        stem.empty() ? std::nullopt : FindEnd(stem, tensor, /*prefix=*/true);
    if (hit && IsOfTable(Below(tensor.substr(hit->before.size()), CountOf(stem, ".") + 1))) {
      return true;
    }
  }
  // One part of the name stands below a table, or two.
  absl::string_view before = tensor;
  for (int parts = 0; parts < 2 && !before.empty(); ++parts) {
    before.remove_suffix(1);  // the dot of the part that was looked at, or of none
    before = before.substr(0, before.rfind('.') + 1);
    if (learned_.count(before) > 0 && IsOfTable(tensor.substr(before.size()))) return true;
  }
  return false;
}

bool RowNames::TellTables() const {
  return absl::c_none_of(stems_, [](const std::string& stem) { return stem.empty(); });
}

void RowNames::LearnTables(const TensorSource& source) {
  for (size_t i = 0; i < names_.size(); ++i) {
    if (!stems_[i].empty()) continue;
    for (const auto& [tensor, places] : source.tensors) {
      if (const std::optional<Hit> hit = Find(i, tensor)) learned_.insert(hit->before);
    }
  }
}

TensorSource SourceOf(const Checkpoint& checkpoint) {
  TensorSource source;
  source.what = absl::StrCat("the checkpoint ", checkpoint.directory());
  for (const auto& [name, place] : checkpoint.tensors()) source.tensors[name] = {&place};
  for (const auto& [name, parts] : checkpoint.rank_parts()) {
    for (const TensorPlace& part : parts) source.tensors[name].push_back(&part);
  }
  source.looked_at = [&checkpoint](const WantedTensor& wanted) {
    return checkpoint.WhatWasRead(wanted);
  };
  return source;
}

absl::StatusOr<CheckpointLayer> LayOutNamedRows(const RowNames& names, const std::string& encoding,
                                                const Family& family, const AddressScheme& scheme,
                                                const LayerAddressing& layer,
                                                const TensorSource& source,
                                                const NoteFunction& note) {
  return NamedLayer(names, family, scheme, layer, source, note).LayOut(encoding);
}

}  // namespace engram
