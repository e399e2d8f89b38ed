#include "memstore/table/joined_rows.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"
#include "memstore/table/interleave.h"

namespace engram {
namespace {

const RowPiece& PieceAt(const RowPart& part, RowId row) {
  const auto behind =
      std::upper_bound(part.pieces.begin(), part.pieces.end(), row,
                       [](RowId row, const RowPiece& piece) { return row < piece.first_row; });
  ENGRAM_CHECK(behind != part.pieces.begin(), "a row lies before the first piece");
  return *(behind - 1);
}

uint64_t RowsBehind(const RowPiece& piece, RowId row) { return piece.first_row + piece.rows - row; }

}  // namespace

// One part's file and bytes. A file stays open from one read to the next: rows are taken in order,
// so a thread changes files seldom, and descriptors do not grow with the number of files.
struct JoinedRowReader::Source {
  absl::StatusOr<absl::Span<const std::byte>> Read(const RowPart& part, RowId first_row,
                                                   uint64_t count) {
    const RowPiece& piece = PieceAt(part, first_row);
    if (reader == nullptr || reader->path() != piece.file) {
      ENGRAM_ASSIGN_OR_RETURN(DirectReader opened, DirectReader::Open(piece.file));
      reader = std::make_unique<DirectReader>(std::move(opened));
    }
    const uint64_t offset = piece.offset + (first_row - piece.first_row) * part.row_bytes;
    const uint64_t bytes = count * part.row_bytes;
    if (offset + bytes > reader->bytes()) {
      return absl::DataLossError(absl::StrCat(piece.file, " has ", reader->bytes(),
                                              " bytes, its rows end at ", offset + bytes,
                                              ": it was cut off; download it again"));
    }
    return reader->Read(offset, bytes, buffer);
  }

  std::unique_ptr<DirectReader> reader;
  PageBuffer buffer;
};

uint32_t JoinedRows::RowBytes() const {
  uint32_t bytes = 0;
  for (const RowPart& part : parts) bytes += part.row_bytes;
  return bytes;
}

JoinedRowReader::JoinedRowReader(const JoinedRows& rows) : rows_(rows) {
  for (size_t i = 0; i < rows_.parts.size(); ++i) sources_.push_back(std::make_unique<Source>());
}

JoinedRowReader::~JoinedRowReader() = default;

absl::Status JoinedRowReader::Read(RowId first_row, absl::Span<std::byte> out) {
  const uint64_t row_bytes = rows_.RowBytes();
  ENGRAM_CHECK(row_bytes > 0, "rows are asked for that have no parts");
  std::vector<PartRows> joined(rows_.parts.size());
  while (!out.empty()) {
    uint64_t count = out.size() / row_bytes;
    for (const RowPart& part : rows_.parts) {
      count = std::min(count, RowsBehind(PieceAt(part, first_row), first_row));
    }
    ENGRAM_CHECK(count > 0, "rows are asked for that lie in no piece");
    for (size_t i = 0; i < rows_.parts.size(); ++i) {
      const RowPart& part = rows_.parts[i];
      ENGRAM_ASSIGN_OR_RETURN(const absl::Span<const std::byte> read,
                              sources_[i]->Read(part, first_row, count));
      joined[i] = {read.data(), part.row_bytes};
    }
    const absl::Span<std::byte> now = out.first(count * row_bytes);
    if (joined.size() == 1) {
      std::memcpy(now.data(), joined[0].rows, now.size());
    } else {
      InterleaveRows(joined, now);
    }
    out.remove_prefix(now.size());
    first_row += count;
  }
  return absl::OkStatus();
}

}  // namespace engram
