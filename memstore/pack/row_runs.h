// Which rows of a table lie in which tensor: whole, in pieces, or in the parts of ranks.
//
// Stateless, thread-safe. Looks at shapes, and CheckPiecesAreFull and PaddingIsTold at single rows;
// that each tensor is [rows, width] was checked. Errors name tensor, file, what was found and what
// was expected: NOT_FOUND for a piece that is missing, FAILED_PRECONDITION for one that does not
// fit, or where two readings are possible.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"
#include "memstore/safetensors/header.h"

namespace engram {

// Rows [first_row, first_row + rows) of the table: the first ones of the tensor.
struct RowRun {
  const TensorPlace* tensor = nullptr;
  RowId first_row = 0;
  uint64_t rows = 0;
};

// "[ROWS, 256]": the tensor's shape, were it of so many rows.
std::string ShapeOf(const TensorPlace& tensor, uint64_t rows);

absl::Status DoesNotFit(const TensorPlace& tensor, absl::string_view expected);

// Rows one after the other, as many as the moduli make, in pieces of one length. Only the last
// piece that holds rows of the table may be shorter, or longer by padding; what lies behind it is
// left out. Padding is refused where a table of the next greater base size would fit as well,
// unless it comes from rounding the rows up to a multiple: the base size is wrong then.
// `next_piece`: the name that one more piece would have; empty for a tensor that is no piece.
absl::StatusOr<std::vector<RowRun>> LayPieces(absl::Span<const TensorPlace* const> pieces,
                                              absl::Span<const uint64_t> moduli,
                                              const std::string& next_piece);

// The parts of ranks, in their order: whole columns, the same number a rank, or pieces as above.
absl::StatusOr<std::vector<RowRun>> LayRanks(absl::Span<const TensorPlace* const> parts,
                                             absl::Span<const uint64_t> moduli);

// What padding is told by: rows of zeros alone where rows may well be alike, as scales are;
// otherwise also rows that are the same as the very last one.
enum class PaddingFill { kZeros, kAnyRow };

// FAILED_PRECONDITION where the pieces can be padded each by itself: as many of those before the
// last one as such a reading asks for end in a row of padding. Shapes don't tell it: 4 pieces of
// 4,224 rows can hold 4,207 each. Cost: one row is read a piece.
absl::Status CheckPiecesAreFull(absl::Span<const TensorPlace* const> tensors,
                                const std::vector<RowRun>& runs, PaddingFill fill);

// Whether the padding can be told from rows: in the piece that the table ends in, its first row is
// the same as its last one, and zeros with kZeros; or it is whole pieces; or no piece but the last
// could have any. Otherwise the pieces can as well be padded each by itself, with rows that are
// anything. Cost: at most two rows are read.
absl::StatusOr<bool> PaddingIsTold(absl::Span<const TensorPlace* const> tensors,
                                   const std::vector<RowRun>& runs, PaddingFill fill);

// Rows of the tensors that `runs` leave out.
uint64_t PaddingRows(absl::Span<const TensorPlace* const> tensors, const std::vector<RowRun>& runs);

}  // namespace engram
