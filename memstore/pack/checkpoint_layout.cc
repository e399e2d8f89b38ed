#include "memstore/pack/checkpoint_layout.h"

#include <fcntl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

constexpr char kPieceMark[] = "{piece}";

std::string ForLayer(absl::string_view pattern, uint32_t layer) {
  return absl::StrReplaceAll(pattern, {{"{layer}", absl::StrCat(layer)}});
}

std::string PieceName(const std::string& pattern, uint64_t piece) {
  return absl::StrReplaceAll(pattern, {{kPieceMark, absl::StrCat(piece)}});
}

// The piece's number when `name` is one of `pattern`'s.
std::optional<uint32_t> PieceOf(const std::string& pattern, absl::string_view name) {
  const size_t mark = pattern.find(kPieceMark);
  const absl::string_view prefix = absl::string_view(pattern).substr(0, mark);
  const absl::string_view suffix = absl::string_view(pattern).substr(mark + strlen(kPieceMark));
  uint32_t piece;
  if (!absl::ConsumePrefix(&name, prefix) || !absl::ConsumeSuffix(&name, suffix) ||
      !absl::SimpleAtoi(name, &piece) || absl::StrCat(piece) != name) {
    return std::nullopt;
  }
  return piece;
}

bool IsName(const std::string& pattern, absl::string_view name) {
  return absl::StrContains(pattern, kPieceMark) ? PieceOf(pattern, name).has_value()
                                                : pattern == name;
}

absl::Status DoesNotFit(const TensorPlace& tensor, absl::string_view expected) {
  return absl::FailedPreconditionError(absl::StrCat("the tensor ", QuoteForMessage(tensor.name),
                                                    " in ", tensor.file, " is ", Describe(tensor),
                                                    ", expected ", expected));
}

// How many pieces the family's pattern has in this checkpoint.
uint64_t CountPieces(const Family& family, const LayerAddressing& layer, const std::string& pattern,
                     const Checkpoint& checkpoint) {
  if (!absl::StrContains(pattern, kPieceMark)) return 1;
  if (family.column_tensors) return layer.moduli.size();
  // Up to the highest one, so that one missing among them is found; with none the first is.
  uint64_t pieces = 1;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (const auto piece = PieceOf(pattern, name)) pieces = std::max(pieces, uint64_t{*piece} + 1);
  }
  return pieces;
}

// Of equal pieces the last ones can be missing without a gap. NOT_FOUND when the first one has the
// length that a greater number of them has.
absl::Status CheckAllPieces(const Family& family, const LayerAddressing& layer,
                            const std::string& pattern, uint64_t pieces,
                            const Checkpoint& checkpoint) {
  const auto first = checkpoint.tensors().find(PieceName(pattern, 0));
  if (!family.equal_pieces || first == checkpoint.tensors().end()) return absl::OkStatus();
  const TensorPlace& tensor = first->second;
  const uint64_t piece_rows = tensor.shape.empty() ? 0 : tensor.shape[0];
  if (piece_rows == 0) return absl::OkStatus();
  const uint64_t needed = (layer.Rows() + piece_rows - 1) / piece_rows;
  if (needed <= pieces || piece_rows != (layer.Rows() + needed - 1) / needed) {
    return absl::OkStatus();
  }
  return absl::NotFoundError(absl::StrCat(
      "the checkpoint ", checkpoint.directory(), " lacks the tensor ", PieceName(pattern, pieces),
      ": ", layer.Rows(), " rows are ", needed, " pieces of the length of ", tensor.name, " in ",
      tensor.file, ", which is ", Describe(tensor), ", and there are ", pieces,
      "; download what is missing, or for a table of another size give its base size with ",
      "--rows-per-head"));
}

// What the rows of one tensor must be: all of the layer's, a column's, or an equal share, padding
// included.
uint64_t RowsOfPiece(const Family& family, const LayerAddressing& layer, uint64_t piece,
                     uint64_t pieces) {
  if (family.column_tensors) return layer.moduli[piece];
  if (!family.equal_pieces) return layer.Rows();
  return (layer.Rows() + pieces - 1) / pieces;
}

absl::StatusOr<RowEncodingKind> KindOf(const Family& family, const TensorPlace& weight,
                                       bool has_scale) {
  if (weight.dtype == "F8_E4M3") {
    if (!has_scale) {
      return DoesNotFit(weight, family.scale_tensor.empty()
                                    ? "BF16, F16 or F32: this family has no scales"
                                    : "a scale tensor beside it, which the checkpoint lacks");
    }
    return family.scale_per_row ? RowEncodingKind::kFp8E4m3Ue8m0Block32 : RowEncodingKind::kFp8E4m3;
  }
  if (has_scale) return DoesNotFit(weight, "F8_E4M3, as there is a scale tensor");
  if (weight.dtype == "BF16") return RowEncodingKind::kBf16;
  if (weight.dtype == "F16") return RowEncodingKind::kFp16;
  if (weight.dtype == "F32") return RowEncodingKind::kFp32;
  return DoesNotFit(weight, "BF16, F16, F32 or F8_E4M3");
}

absl::Status CheckTensor(const TensorPlace& tensor, absl::string_view dtype, uint64_t rows,
                         uint64_t columns, const Family& family) {
  if (tensor.dtype == dtype && tensor.shape == std::vector<uint64_t>{rows, columns}) {
    return absl::OkStatus();
  }
  const bool only_rows =
      tensor.dtype == dtype && tensor.shape.size() == 2 && tensor.shape[1] == columns;
  return DoesNotFit(tensor, absl::StrCat(dtype, " [", rows, ", ", columns, "]",
                                         only_rows ? "; for a table of another size give its base "
                                                     "size with --rows-per-head, for the family "
                                                   : " for the family ",
                                         family.name));
}

// One value, positive and finite.
absl::StatusOr<float> ReadScalar(const TensorPlace& tensor) {
  uint64_t elements = 1;
  for (const uint64_t size : tensor.shape) elements *= size;
  const bool is_bf16 = tensor.dtype == "BF16";
  if (elements != 1 || !(is_bf16 || tensor.dtype == "F32")) {
    return DoesNotFit(tensor, "one value as F32 or BF16");
  }
  absl::StatusOr<FileDescriptor> file = OpenFile(tensor.file, O_RDONLY);
  if (!file.ok()) return file.status();
  std::byte bytes[sizeof(float)] = {};
  // A BF16 value is the upper half of the F32 one.
  const size_t at = is_bf16 ? sizeof(float) / 2 : 0;
  absl::Status status =
      ReadFully(*file, tensor.offset, absl::MakeSpan(bytes).subspan(at), tensor.file);
  if (!status.ok()) return status;
  float value;
  std::memcpy(&value, bytes, sizeof(value));
  if (std::isfinite(value) && value > 0) return value;
  return absl::FailedPreconditionError(absl::StrCat("the tensor ", QuoteForMessage(tensor.name),
                                                    " in ", tensor.file, " is ", value,
                                                    ", expected a positive, finite scale"));
}

// The encoding of the whole layer, from its first tensor.
absl::StatusOr<RowEncoding> EncodingOf(const Family& family, uint32_t layer,
                                       const TensorPlace& weight, const Checkpoint& checkpoint) {
  const TensorPlace* scale = nullptr;
  if (!family.scale_tensor.empty()) {
    const auto it = checkpoint.tensors().find(PieceName(ForLayer(family.scale_tensor, layer), 0));
    if (it != checkpoint.tensors().end()) scale = &it->second;
  }
  absl::StatusOr<RowEncodingKind> kind = KindOf(family, weight, scale != nullptr);
  if (!kind.ok()) return kind.status();
  RowEncoding encoding{*kind, family.row_dim, 0};
  if (*kind == RowEncodingKind::kFp8E4m3) {
    absl::StatusOr<float> value = ReadScalar(*scale);
    if (!value.ok()) return value.status();
    encoding.global_scale = *value;
  }
  return encoding;
}

}  // namespace

WantedTensor TableTensors(const Family& family, const AddressScheme& scheme) {
  std::vector<std::string> patterns;
  for (const LayerAddressing& layer : scheme.layers) {
    patterns.push_back(ForLayer(family.weight_tensor, layer.layer));
    if (!family.scale_tensor.empty()) {
      patterns.push_back(ForLayer(family.scale_tensor, layer.layer));
    }
  }
  return [patterns = std::move(patterns)](absl::string_view name) {
    for (const std::string& pattern : patterns) {
      if (IsName(pattern, name)) return true;
    }
    return false;
  };
}

absl::StatusOr<CheckpointLayer> LayOutLayer(const Family& family, const LayerAddressing& layer,
                                            const Checkpoint& checkpoint) {
  const std::string weights = ForLayer(family.weight_tensor, layer.layer);
  const std::string scales = ForLayer(family.scale_tensor, layer.layer);
  const uint64_t pieces = CountPieces(family, layer, weights, checkpoint);
  absl::Status status = CheckAllPieces(family, layer, weights, pieces, checkpoint);
  if (!status.ok()) return status;
  CheckpointLayer out;
  std::string dtype;
  RowId first_row = 0;
  for (uint64_t piece = 0; piece < pieces; ++piece) {
    absl::StatusOr<const TensorPlace*> weight = checkpoint.Find(PieceName(weights, piece));
    if (!weight.ok()) return weight.status();
    if (piece == 0) {
      absl::StatusOr<RowEncoding> encoding = EncodingOf(family, layer.layer, **weight, checkpoint);
      if (!encoding.ok()) return encoding.status();
      out.encoding = *encoding;
      dtype = (*weight)->dtype;
    }
    const uint64_t rows = RowsOfPiece(family, layer, piece, pieces);
    status = CheckTensor(**weight, dtype, rows, family.row_dim, family);
    if (!status.ok()) return status;
    RowPiece part{*weight, nullptr, first_row, std::min(rows, layer.Rows() - first_row)};
    if (out.encoding.kind == RowEncodingKind::kFp8E4m3Ue8m0Block32) {
      absl::StatusOr<const TensorPlace*> scale = checkpoint.Find(PieceName(scales, piece));
      if (!scale.ok()) return scale.status();
      out.scale_bytes = family.row_dim / kScaleBlockValues;
      status = CheckTensor(**scale, "F8_E8M0", rows, out.scale_bytes, family);
      if (!status.ok()) return status;
      part.scale = *scale;
    }
    first_row += part.rows;
    out.pieces.push_back(part);
  }
  out.weight_bytes = EncodedRowBytes(out.encoding) - out.scale_bytes;
  return out;
}

}  // namespace engram
