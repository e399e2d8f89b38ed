#include "memstore/pack/row_runs.h"

#include <fcntl.h>

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

// Rows are rounded up to such multiples by those who write tables: 64 a rank, 128 and 512 are
// known. Any smaller padding is content with one of them.
constexpr uint64_t kPaddingMultiples[] = {1,   2,   4,   8,    16,   32,   64,  100,
                                          128, 256, 512, 1000, 1024, 2048, 4096};

uint64_t RoundUp(uint64_t n, uint64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
uint64_t DivideUp(uint64_t n, uint64_t by) { return (n + by - 1) / by; }
uint64_t RowsOf(const TensorPlace& tensor) { return tensor.shape[0]; }

uint64_t Sum(absl::Span<const uint64_t> numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), uint64_t{0});
}

uint64_t StoredRows(absl::Span<const TensorPlace* const> tensors) {
  uint64_t rows = 0;
  for (const TensorPlace* tensor : tensors) {
    rows +=
        std::min(RowsOf(*tensor), UINT64_MAX - rows);  // sparse files can be longer than any disk
  }
  return rows;
}

constexpr char kOtherSize[] = "for a table of another size give its base size with --rows-per-head";

// Whether `stored` rows are what some multiple makes of a table's `rows`, alone or as `pieces`
// equal ones.
bool IsRoundedUp(uint64_t rows, uint64_t stored, uint64_t pieces) {
  for (const uint64_t multiple : kPaddingMultiples) {
    const uint64_t padded = RoundUp(rows, multiple);
    if (stored == padded || stored == pieces * DivideUp(padded, pieces) ||
        stored == pieces * RoundUp(DivideUp(rows, pieces), multiple)) {
      return true;
    }
  }
  return false;
}

// The rows by which the next greater table has more, at least: each column's modulus goes past the
// greatest one, or moves up by one place among them.
uint64_t NextTableHasMore(absl::Span<const uint64_t> moduli) {
  const auto [least, greatest] = std::minmax_element(moduli.begin(), moduli.end());
  return *greatest - *least + 2;
}

absl::Status CheckPadding(absl::Span<const TensorPlace* const> pieces,
                          absl::Span<const uint64_t> moduli) {
  const uint64_t rows = Sum(moduli), stored = StoredRows(pieces);
  if (stored - rows < NextTableHasMore(moduli) || IsRoundedUp(rows, stored, pieces.size())) {
    return absl::OkStatus();
  }
  return DoesNotFit(*pieces.back(), absl::StrCat(rows, " rows in all, and there are ", stored,
                                                 ": padding would not be so long; ", kOtherSize));
}

// Ranks have parts of one tensor in a file each; pieces are tensors of their own.
bool AreOfRanks(const TensorPlace& one, const TensorPlace& other) {
  return one.name == other.name && one.file != other.file;
}

// A piece, or a rank's part, that is not as long as the first one.
absl::Status OtherLength(const TensorPlace& piece, const TensorPlace& first) {
  const bool ranks = AreOfRanks(piece, first);
  return DoesNotFit(
      piece, absl::StrCat(
                 ShapeOf(first, RowsOf(first)), " as ",
                 ranks ? absl::StrCat("that in ", first.file) : QuoteForMessage(first.name),
                 " is: ", ranks ? "the parts that ranks have of a table" : "the pieces of a table",
                 " have one length but for the last; download the file again, or ", kOtherSize));
}

// Of pieces that hold less than `rows`.
absl::Status TooFew(absl::Span<const TensorPlace* const> pieces, uint64_t rows,
                    const std::string& next_piece) {
  const TensorPlace &first = *pieces.front(), &last = *pieces.back();
  const uint64_t needed = DivideUp(rows, RowsOf(first));
  if (next_piece.empty() || needed == pieces.size()) {
    const uint64_t before = StoredRows(pieces.first(pieces.size() - 1));
    return DoesNotFit(last, absl::StrCat(ShapeOf(last, rows - std::min(before, rows)),
                                         " or more rows; ", kOtherSize));
  }
  if (RowsOf(last) != RowsOf(first)) return OtherLength(last, first);
  return absl::NotFoundError(
      absl::StrCat("the checkpoint lacks the tensor ", next_piece, ": ", rows, " rows are ", needed,
                   " pieces of the length of ", QuoteForMessage(first.name), " in ", first.file,
                   ", which is ", Describe(first), ", and there are ", pieces.size(),
                   "; download what is missing, or ", kOtherSize));
}

std::vector<RowRun> Runs(absl::Span<const TensorPlace* const> tensors, uint64_t rows) {
  std::vector<RowRun> runs;
  RowId first_row = 0;
  for (const TensorPlace* tensor : tensors) {
    const uint64_t count = std::min(RowsOf(*tensor), rows - first_row);
    if (count > 0) runs.push_back({tensor, first_row, count});
    first_row += count;
  }
  return runs;
}

// Of a row that is compared: more than the rows of any known table have.
constexpr uint64_t kMaxComparedBytes = 64u << 10;

// One row of `tensor`; of a very long one the first bytes.
absl::StatusOr<std::string> ReadRow(const TensorPlace& tensor, uint64_t index) {
  const uint64_t row_bytes = tensor.bytes / RowsOf(tensor);
  std::string row(std::min(row_bytes, kMaxComparedBytes), '\0');
  ENGRAM_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(tensor.file, O_RDONLY));
  ENGRAM_RETURN_IF_ERROR(
      ReadFully(file, tensor.offset + index * row_bytes,
                absl::MakeSpan(reinterpret_cast<std::byte*>(row.data()), row.size()), tensor.file));
  return row;
}

absl::StatusOr<std::string> LastRow(const TensorPlace& tensor) {
  return ReadRow(tensor, RowsOf(tensor) - 1);
}

// Of `padding` rows those that lie in pieces before the last one, were each piece padded by itself:
// of pieces of one length the last one has a row of them in every reading.
uint64_t PaddingOfOthers(const std::vector<RowRun>& runs, uint64_t padding) {
  if (padding == 0 || runs.size() < 2) return 0;
  const bool is_equal = RowsOf(*runs.back().tensor) == RowsOf(*runs.front().tensor);
  return is_equal ? padding - 1 : padding;
}

bool IsZeros(const std::string& row) { return row.find_first_not_of('\0') == std::string::npos; }

// Rows of each rank's columns: the same number of columns each, as far as they go.
std::vector<uint64_t> RowsOfRanks(absl::Span<const uint64_t> moduli, size_t ranks) {
  const size_t each = DivideUp(moduli.size(), ranks);
  std::vector<uint64_t> rows;
  for (size_t rank = 0; rank < ranks; ++rank) {
    rows.push_back(Sum(moduli.subspan(std::min(rank * each, moduli.size()), each)));
  }
  return rows;
}

}  // namespace

std::string ShapeOf(const TensorPlace& tensor, uint64_t rows) {
  std::vector<uint64_t> shape = tensor.shape;
  shape[0] = rows;
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::Status DoesNotFit(const TensorPlace& tensor, absl::string_view expected) {
  return absl::FailedPreconditionError(absl::StrCat("the tensor ", QuoteForMessage(tensor.name),
                                                    " in ", tensor.file, " is ", Describe(tensor),
                                                    ", expected ", expected));
}

absl::StatusOr<std::vector<RowRun>> LayPieces(absl::Span<const TensorPlace* const> pieces,
                                              absl::Span<const uint64_t> moduli,
                                              const std::string& next_piece) {
  const uint64_t rows = Sum(moduli);
  const TensorPlace& first = *pieces.front();
  const uint64_t length = RowsOf(first);
  if (length == 0) return DoesNotFit(first, "rows");
  // The last one that holds rows of the table, were all of one length.
  const uint64_t last = DivideUp(rows, length) - 1;
  for (uint64_t i = 0; i < std::min<uint64_t>(last, pieces.size()); ++i) {
    // A shorter one at the very end is one too few, below.
    const bool is_short_end = i + 1 == pieces.size() && RowsOf(*pieces[i]) < length;
    if (RowsOf(*pieces[i]) != length && !is_short_end) return OtherLength(*pieces[i], first);
  }
  if (pieces.size() <= last || RowsOf(*pieces[last]) < rows - last * length) {
    return TooFew(pieces.first(std::min<size_t>(pieces.size(), last + 1)), rows, next_piece);
  }
  ENGRAM_RETURN_IF_ERROR(CheckPadding(pieces, moduli));
  return Runs(pieces, rows);
}

absl::StatusOr<std::vector<RowRun>> LayRanks(absl::Span<const TensorPlace* const> parts,
                                             absl::Span<const uint64_t> moduli) {
  const uint64_t rows = Sum(moduli);
  const TensorPlace& first = *parts.front();
  const std::vector<uint64_t> columns = RowsOfRanks(moduli, parts.size());
  bool is_columns = true, is_equal = true, is_whole = true;
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    is_columns &= RowsOf(*parts[rank]) == columns[rank];
    is_equal &= RowsOf(*parts[rank]) == RowsOf(first);
    is_whole &= RowsOf(*parts[rank]) >= rows;
  }
  if (is_columns) return Runs(parts, rows);
  if (const uint64_t stored = StoredRows(parts); stored < rows) {
    return DoesNotFit(
        *parts.back(),
        absl::StrCat(rows, " rows together with the parts of the other ranks, and there are ",
                     stored, " in ", parts.size(),
                     " ranks: is the file of a rank missing? If not, ", kOtherSize));
  }
  if (is_whole) {
    return DoesNotFit(first, absl::StrCat("fewer rows, a rank's part of them: the table has ", rows,
                                          ", each of ", parts.size(),
                                          " ranks has the whole table, "
                                          "and which of them is meant can't be told; keep the file "
                                          "of one rank"));
  }
  if (is_equal && RowsOf(first) >= *std::max_element(columns.begin(), columns.end())) {
    return DoesNotFit(
        first,
        absl::StrCat("a length that says how the table of ", rows, " rows was cut among ",
                     parts.size(), " ranks: ", RowsOf(first),
                     " each can be the rows cut evenly, or whole columns a rank with padding "
                     "behind each; export the model without tensor parallelism"));
  }
  return LayPieces(parts, moduli, "");
}

absl::Status CheckPiecesAreFull(absl::Span<const TensorPlace* const> tensors,
                                const std::vector<RowRun>& runs, PaddingFill fill) {
  const uint64_t padding = PaddingRows(tensors, runs);
  const uint64_t in_others = PaddingOfOthers(runs, padding);
  if (in_others == 0) return absl::OkStatus();
  const uint64_t expected = std::min<uint64_t>(in_others, runs.size() - 1);
  ENGRAM_ASSIGN_OR_RETURN(const std::string end, LastRow(*runs.back().tensor));
  uint64_t found = 0;
  const TensorPlace* padded = nullptr;
  for (size_t i = 0; i + 1 < runs.size(); ++i) {
    ENGRAM_ASSIGN_OR_RETURN(const std::string row, LastRow(*runs[i].tensor));
    if (!IsZeros(row) && (fill == PaddingFill::kZeros || row != end)) continue;
    padded = runs[i].tensor;
    ++found;
  }
  if (found < expected) return absl::OkStatus();
  const char* const piece =
      AreOfRanks(*runs.front().tensor, *runs.back().tensor) ? "rank's part" : "piece";
  return DoesNotFit(
      *padded,
      absl::StrCat("a row of the table at its end, and there is one as padding has it, as at the "
                   "end of ",
                   found, " of the ", runs.size() - 1, " ", piece, "s before the last: the ",
                   padding,
                   " rows of padding can all lie behind the last row of the table, or "
                   "each ",
                   piece,
                   " can be padded by itself, and then other rows are meant; cut "
                   "the padding off each ",
                   piece, ", or export the table as one tensor"));
}

absl::StatusOr<bool> PaddingIsTold(absl::Span<const TensorPlace* const> tensors,
                                   const std::vector<RowRun>& runs, PaddingFill fill) {
  if (PaddingOfOthers(runs, PaddingRows(tensors, runs)) == 0) return true;
  const RowRun& last = runs.back();
  // Whole pieces of padding lie behind it.
  if (last.rows == RowsOf(*last.tensor)) return true;
  ENGRAM_ASSIGN_OR_RETURN(const std::string begin, ReadRow(*last.tensor, last.rows));
  ENGRAM_ASSIGN_OR_RETURN(const std::string end, LastRow(*last.tensor));
  return begin == end && (fill == PaddingFill::kAnyRow || IsZeros(begin));
}

uint64_t PaddingRows(absl::Span<const TensorPlace* const> tensors,
                     const std::vector<RowRun>& runs) {
  uint64_t used = 0;
  for (const RowRun& run : runs) used += run.rows;
  return StoredRows(tensors) - used;
}

}  // namespace engram
