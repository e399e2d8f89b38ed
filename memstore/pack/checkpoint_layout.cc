#include "memstore/pack/checkpoint_layout.h"

#include <fcntl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/pack/table_names.h"

namespace engram {
namespace {

// A warning that lists more is not read.
constexpr size_t kMaxRangesSaid = 3;
constexpr char kRowsAsTheyAre[] =
    "to pack the rows as they are, name their tensors with --rows and --encoding";

struct TablesOfLayer {
  TensorsOfTable weights, scales;
};

absl::Status TwoAreMeant(const std::string& one, const std::string& other) {
  return absl::FailedPreconditionError(absl::StrCat(
      "the tensors ", QuoteForMessage(one), " and ", QuoteForMessage(other),
      " can both be the table, and which of them is meant can't be told: give a checkpoint that "
      "holds one of them"));
}

absl::Status AddTensor(const std::string& name, const TableTensor& tensor, Places places,
                       TablesOfLayer& tables) {
  TensorsOfTable& group = tensor.part == TableTensor::Part::kScale ? tables.scales : tables.weights;
  for (const TensorsOfTable* other : {&tables.weights, &tables.scales}) {
    const bool same_form = other != &group || other->form == tensor.form;
    if (other->pieces.empty() || (other->stem == tensor.stem && same_form)) continue;
    return TwoAreMeant(other->pieces.begin()->second[0]->name, name);
  }
  group.stem = tensor.stem;
  group.form = tensor.form;
  group.in_pieces = tensor.piece.has_value();
  const auto [it, is_new] = group.pieces.emplace(tensor.piece.value_or(0), std::move(places));
  return is_new ? absl::OkStatus() : TwoAreMeant(it->second[0]->name, name);
}

// Calls `each` for every tensor of the family's tables that the checkpoint has.
absl::Status ForEachTensor(
    const Family& family, const Checkpoint& checkpoint,
    const std::function<absl::Status(const std::string& name, const TableTensor&, Places)>& each) {
  const TableNames names(family);
  for (const auto& [name, place] : checkpoint.tensors()) {
    if (const auto tensor = names.Parse(name)) {
      ENGRAM_RETURN_IF_ERROR(each(name, *tensor, {&place}));
    }
  }
  for (const auto& [name, parts] : checkpoint.rank_parts()) {
    Places places;
    for (const TensorPlace& part : parts) places.push_back(&part);
    if (const auto tensor = names.Parse(name)) {
      ENGRAM_RETURN_IF_ERROR(each(name, *tensor, std::move(places)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<TablesOfLayer> FindTables(const Family& family, uint32_t layer,
                                         const Checkpoint& checkpoint) {
  TablesOfLayer tables;
  ENGRAM_RETURN_IF_ERROR(ForEachTensor(
      family, checkpoint,
      [&](const std::string& name, const TableTensor& tensor, Places places) -> absl::Status {
        if (tensor.layer != layer) return absl::OkStatus();
        if (tensor.part != TableTensor::Part::kUnknown) {
          return AddTensor(name, tensor, std::move(places), tables);
        }
        return absl::FailedPreconditionError(absl::StrCat(
            "the tensor ", QuoteForMessage(name), " in ", places[0]->file,
            " belongs to the table and is not one that this version knows: the rows would not mean "
            "what the model makes of them; ",
            kRowsAsTheyAre));
      }));
  if (!tables.weights.pieces.empty()) return tables;
  return absl::NotFoundError(absl::StrCat(
      "the checkpoint ", checkpoint.directory(), " lacks the tensor of the table of layer ", layer,
      " for the family ", family.name,
      ": no tensor has one of these names, alone or behind others and a dot ({i}: numbers from 0 "
      "on): ",
      TableNames(family).LookedFor(layer), "; ",
      checkpoint.WhatWasRead([names = TableNames(family), layer](absl::string_view name) {
        const auto tensor = names.Parse(name);
        return tensor && tensor->layer == layer;
      })));
}

// All pieces from 0 on, in order.
absl::StatusOr<std::vector<Places>> InOrder(const TensorsOfTable& table,
                                            const Checkpoint& checkpoint) {
  std::vector<Places> pieces;
  for (const auto& [number, places] : table.pieces) {
    if (number != pieces.size()) {
      const uint64_t last = table.pieces.rbegin()->first;
      const std::string lost = PieceName(table.stem, table.form, pieces.size());
      return absl::NotFoundError(absl::StrCat(
          "the checkpoint ", checkpoint.directory(), " lacks the tensor ", QuoteForMessage(lost),
          ": it has ", table.pieces.size(), " of the ", last + 1, " pieces 0 to ", last,
          " of this table, so the checkpoint is of this family and not whole; download the file "
          "that holds the tensor; ",
          checkpoint.WhatWasRead([&lost](absl::string_view name) { return name == lost; })));
    }
    pieces.push_back(places);
  }
  return pieces;
}

absl::Status CheckTensor(const TensorPlace& tensor, const std::set<std::string>& dtypes,
                         uint64_t columns, const Family& family) {
  if (dtypes.count(tensor.dtype) > 0 && tensor.shape.size() == 2 && tensor.shape[1] == columns) {
    return absl::OkStatus();
  }
  return DoesNotFit(
      tensor,
      absl::StrCat(absl::StrJoin(dtypes, " or "), " of the shape [any number of rows, ", columns,
                   "] for the family ", family.name, dtypes.count(tensor.dtype) > 0 ? "" : "; ",
                   dtypes.count(tensor.dtype) > 0 ? "" : kRowsAsTheyAre));
}

// Column by column: each is a tensor, or the parts of one.
absl::StatusOr<std::vector<RowRun>> LayColumns(const TensorsOfTable& table,
                                               const std::vector<Places>& columns,
                                               absl::Span<const uint64_t> moduli) {
  std::vector<RowRun> runs;
  RowId first_row = 0;
  for (size_t column = 0; column < std::max(columns.size(), moduli.size()); ++column) {
    const std::string name = PieceName(table.stem, table.form, column);
    if (column >= columns.size()) {
      return absl::NotFoundError(absl::StrCat("the checkpoint lacks the tensor ", name,
                                              ": this table has a tensor for each column, and "
                                              "there are ",
                                              columns.size(), " columns of ", moduli.size(),
                                              "; download the file that holds it"));
    }
    if (column >= moduli.size()) {
      return DoesNotFit(*columns[column][0],
                        absl::StrCat("no tensor of column ", column, ": the table has ",
                                     moduli.size(), " columns, 0 to ", moduli.size() - 1,
                                     "; is it a checkpoint of this family?"));
    }
    const Places& parts = columns[column];
    std::vector<RowRun> of_column = {{parts[0], 0, moduli[column]}};
    if (parts.size() > 1) {
      ENGRAM_ASSIGN_OR_RETURN(of_column, LayRanks(parts, moduli.subspan(column, 1)));
      ENGRAM_RETURN_IF_ERROR(CheckPiecesAreFull(parts, of_column, PaddingFill::kAnyRow));
    } else if (parts[0]->shape[0] != moduli[column]) {
      return DoesNotFit(*parts[0],
                        absl::StrCat(ShapeOf(*parts[0], moduli[column]),
                                     "; for a table of another size give its base size with "
                                     "--rows-per-head"));
    }
    for (RowRun& run : of_column) {
      run.first_row += first_row;
      runs.push_back(run);
    }
    first_row += moduli[column];
  }
  return runs;
}

absl::Status NotePadding(const Places& tensors, const std::vector<RowRun>& runs, PaddingFill fill,
                         uint64_t rows, const NoteFunction& note) {
  const uint64_t padding = PaddingRows(tensors, runs);
  if (padding == 0 || !note) return absl::OkStatus();
  ENGRAM_ASSIGN_OR_RETURN(const bool is_told, PaddingIsTold(tensors, runs, fill));
  note(absl::StrCat("note: the last ", padding, " rows of ", QuoteForMessage(tensors.back()->name),
                    " are padding and left out: the table has ", rows, " rows",
                    is_told
                        ? ""
                        : "; they are neither zeros nor alike, so nothing tells them from rows: "
                          "were each piece padded by itself, these would be the wrong ones"));
  return absl::OkStatus();
}

// One value, positive and finite.
absl::StatusOr<float> ReadScalar(const TensorPlace& tensor) {
  uint64_t elements = 1;
  for (const uint64_t size : tensor.shape) elements *= size;
  const bool is_f32 = tensor.dtype == "F32";
  if (elements != 1 || !(is_f32 || tensor.dtype == "BF16" || tensor.dtype == "F16")) {
    return DoesNotFit(tensor, "one value as F32, BF16 or F16");
  }
  ENGRAM_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(tensor.file, O_RDONLY));
  std::byte bytes[sizeof(float)] = {};
  ENGRAM_RETURN_IF_ERROR(
      ReadFully(file, tensor.offset, absl::MakeSpan(bytes).first(is_f32 ? 4 : 2), tensor.file));
  uint32_t bits;
  std::memcpy(&bits, bytes, sizeof(bits));
  float value;
  if (tensor.dtype == "F16") {
    // Sign, 5 bits of exponent, 10 of fraction; every such value is a float.
    const int exponent = static_cast<int>(bits >> 10 & 0x1f), fraction = bits & 0x3ff;
    value = exponent == 0x1f
                ? INFINITY
                : std::ldexp(static_cast<float>(exponent > 0 ? fraction + 0x400 : fraction),
                             std::max(exponent, 1) - 25);
    if (bits >> 15 & 1) value = -value;
  } else {
    if (!is_f32) bits <<= 16;  // BF16 is the upper half of F32
    std::memcpy(&value, &bits, sizeof(value));
  }
  if (std::isfinite(value) && value > 0) return value;
  return absl::FailedPreconditionError(absl::StrCat("the tensor ", QuoteForMessage(tensor.name),
                                                    " in ", tensor.file, " is ", value,
                                                    ", expected a positive, finite scale"));
}

absl::StatusOr<RowEncodingKind> KindOf(const Family& family, uint32_t layer,
                                       const TensorPlace& weight, bool has_scale) {
  if (weight.dtype == "F8_E4M3") {
    if (!has_scale || family.scale_tensor.empty()) {
      if (family.scale_tensor.empty()) {
        return DoesNotFit(weight, "BF16, F16 or F32: this family has no scales");
      }
      const std::string scale = absl::StrReplaceAll(
          family.scale_tensor, {{"{layer}", absl::StrCat(layer)}, {"{piece}", "0"}});
      return DoesNotFit(weight,
                        absl::StrCat("its scales beside it, and the checkpoint lacks the "
                                     "tensor ",
                                     scale, ": download the file that holds it; ", kRowsAsTheyAre));
    }
    return family.scale_per_row ? RowEncodingKind::kFp8E4m3Ue8m0Block32 : RowEncodingKind::kFp8E4m3;
  }
  if (has_scale) return DoesNotFit(weight, "F8_E4M3, as there is a scale tensor");
  if (weight.dtype == "BF16") return RowEncodingKind::kBf16;
  if (weight.dtype == "F16") return RowEncodingKind::kFp16;
  if (weight.dtype == "F32") return RowEncodingKind::kFp32;
  return DoesNotFit(weight, "BF16, F16, F32 or F8_E4M3");
}

absl::Status LayScales(const Family& family, const LayerAddressing& layer,
                       const TensorsOfTable& table, const Checkpoint& checkpoint,
                       const NoteFunction& note, LayerPart& out) {
  // A byte is a byte: tools without the dtype spell it so.
  const std::set<std::string> dtypes = {"F8_E8M0", "I8", "U8"};
  out.row_bytes = family.row_dim / kScaleBlockValues;
  ENGRAM_ASSIGN_OR_RETURN(const std::vector<Places> pieces, InOrder(table, checkpoint));
  for (const Places& places : pieces) {
    for (const TensorPlace* place : places) {
      ENGRAM_RETURN_IF_ERROR(CheckTensor(*place, dtypes, out.row_bytes, family));
    }
  }
  const TensorPlace& first = *pieces[0][0];
  if (first.dtype != "F8_E8M0" && note) {
    note(absl::StrCat("note: the scales in ", QuoteForMessage(first.name), " are ",
                      QuoteForMessage(first.dtype),
                      ", taken as the bytes of F8_E8M0 that they are"));
  }
  ENGRAM_ASSIGN_OR_RETURN(out.runs,
                          LayRows(family, layer, table, pieces, PaddingFill::kZeros, note));
  return absl::OkStatus();
}

std::string SayRanges(const std::vector<ByteRange>& ranges) {
  std::string text;
  for (size_t i = 0; i < std::min(ranges.size(), kMaxRangesSaid); ++i) {
    absl::StrAppend(&text, i > 0 ? ", " : "", ranges[i].begin, "..", ranges[i].end - 1);
  }
  if (ranges.size() > kMaxRangesSaid) absl::StrAppend(&text, " and more");
  return text;
}

}  // namespace

absl::StatusOr<std::vector<RowRun>> LayRows(const Family& family, const LayerAddressing& layer,
                                            const TensorsOfTable& table,
                                            const std::vector<Places>& pieces, PaddingFill fill,
                                            const NoteFunction& note) {
  if (family.column_tensors && absl::string_view(table.form).substr(0, 7) == "{piece}") {
    return LayColumns(table, pieces, layer.moduli);
  }
  std::vector<RowRun> runs;
  if (!table.in_pieces && pieces[0].size() > 1) {
    ENGRAM_ASSIGN_OR_RETURN(runs, LayRanks(pieces[0], layer.moduli));
    ENGRAM_RETURN_IF_ERROR(CheckPiecesAreFull(pieces[0], runs, fill));
    ENGRAM_RETURN_IF_ERROR(NotePadding(pieces[0], runs, fill, layer.Rows(), note));
    return runs;
  }
  Places tensors;
  for (const Places& places : pieces) {
    if (places.size() > 1) {
      return DoesNotFit(
          *places[0],
          absl::StrCat("a piece of the table as a whole: each piece is cut among ", places.size(),
                       " ranks as well; export the model without tensor parallelism"));
    }
    tensors.push_back(places[0]);
  }
  const std::string next =
      table.in_pieces ? PieceName(table.stem, table.form, tensors.size()) : std::string();
  ENGRAM_ASSIGN_OR_RETURN(runs, LayPieces(tensors, layer.moduli, next));
  ENGRAM_RETURN_IF_ERROR(CheckPiecesAreFull(tensors, runs, fill));
  ENGRAM_RETURN_IF_ERROR(NotePadding(tensors, runs, fill, layer.Rows(), note));
  return runs;
}

absl::StatusOr<float> ReadGlobalScale(const TensorsOfTable& scales) {
  const TensorPlace* first = nullptr;
  float value = 0;
  for (const auto& [number, places] : scales.pieces) {
    for (const TensorPlace* place : places) {
      ENGRAM_ASSIGN_OR_RETURN(const float found, ReadScalar(*place));
      if (first == nullptr) {
        first = place;
        value = found;
      } else if (found != value) {
        return DoesNotFit(
            *place, absl::StrCat("the scale of ", QuoteForMessage(first->name), " in ", first->file,
                                 ": the table has one for all rows, and "
                                 "here are ",
                                 value, " and ", found));
      }
    }
  }
  return value;
}

uint32_t CheckpointLayer::RowBytes() const {
  uint32_t bytes = 0;
  for (const LayerPart& part : parts) bytes += part.row_bytes;
  return bytes;
}

WantedTensor TableTensors(const Family& family) {
  return [names = TableNames(family)](absl::string_view name) {
    return names.Parse(name).has_value();
  };
}

absl::StatusOr<CheckpointLayer> LayOutLayer(const Family& family, const LayerAddressing& layer,
                                            const Checkpoint& checkpoint,
                                            const NoteFunction& note) {
  ENGRAM_ASSIGN_OR_RETURN(const TablesOfLayer tables, FindTables(family, layer.layer, checkpoint));
  ENGRAM_ASSIGN_OR_RETURN(const std::vector<Places> pieces, InOrder(tables.weights, checkpoint));
  const TensorPlace& first = *pieces[0][0];
  ENGRAM_ASSIGN_OR_RETURN(const RowEncodingKind kind,
                          KindOf(family, layer.layer, first, !tables.scales.pieces.empty()));
  CheckpointLayer out;
  out.encoding = {kind, family.row_dim, 0};
  for (const Places& places : pieces) {
    for (const TensorPlace* place : places) {
      ENGRAM_RETURN_IF_ERROR(CheckTensor(*place, {first.dtype}, family.row_dim, family));
    }
  }
  LayerPart weights, scales;
  ENGRAM_ASSIGN_OR_RETURN(
      weights.runs, LayRows(family, layer, tables.weights, pieces, PaddingFill::kAnyRow, note));
  if (kind == RowEncodingKind::kFp8E4m3) {
    const size_t scales_there = tables.scales.pieces.size();
    if (scales_there != 1 && scales_there < tables.weights.pieces.size()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "layer ", layer.layer, " has ", tables.weights.pieces.size(), " pieces of rows and ",
          scales_there, " scales: is a file missing? There is one scale for all, or one a piece"));
    }
    ENGRAM_ASSIGN_OR_RETURN(out.encoding.global_scale, ReadGlobalScale(tables.scales));
  }
  if (kind == RowEncodingKind::kFp8E4m3Ue8m0Block32) {
    ENGRAM_RETURN_IF_ERROR(LayScales(family, layer, tables.scales, checkpoint, note, scales));
  }
  weights.row_bytes = EncodedRowBytes(out.encoding) - scales.row_bytes;
  out.parts.push_back(std::move(weights));
  if (scales.row_bytes > 0) out.parts.push_back(std::move(scales));
  return out;
}

void WarnOfOddBytes(const std::map<std::string, std::vector<ByteRange>>& stray,
                    const CheckpointLayer& layer, const NoteFunction& note,
                    std::set<std::string>& files) {
  if (!note) return;
  for (const LayerPart& part : layer.parts) {
    for (const RowRun& run : part.runs) {
      const std::string& file = run.tensor->file;
      const uint64_t begin = run.tensor->offset;
      const std::vector<ByteRange> holes =
          FindHoles(file, {begin, begin + run.rows * part.row_bytes}, kMaxRangesSaid + 1);
      if (!holes.empty()) {
        note(absl::StrCat("warning: ", file, " has holes in the rows of ",
                          QuoteForMessage(run.tensor->name), ", at the bytes ", SayRanges(holes),
                          ": nothing was written there, and the rows are zeros; was the download "
                          "finished?"));
      }
      const auto of_none = stray.find(file);
      if (!files.insert(file).second || of_none == stray.end() || of_none->second.empty()) {
        continue;
      }
      note(absl::StrCat("warning: ", file, " has bytes that belong to no tensor, at ",
                        SayRanges(of_none->second), ": is it the file that its header is of?"));
    }
  }
}

}  // namespace engram
