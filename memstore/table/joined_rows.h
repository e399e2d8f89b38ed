// Rows whose bytes lie in files of others: in one tensor, or joined from several row by row (codes
// and their scales), each in one piece or in many.
//
// JoinedRows is a plain value that says where; whoever makes it has checked that each part covers
// all rows of the table, in order and without gaps. A JoinedRowReader reads them; it is one
// thread's. Reads go past the page cache where they can (memstore/os/direct_file.h); memory: one
// buffer a part, as long as what is asked for at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"
#include "memstore/os/direct_file.h"

namespace engram {

// Rows [first_row, first_row + rows) of the table, one after the other from `offset` of the file
// on, each of the part's row_bytes.
struct RowPiece {
  std::string file;
  uint64_t offset = 0;
  RowId first_row = 0;
  uint64_t rows = 0;
};

// What each row takes from one tensor, whole or in pieces.
struct RowPart {
  uint32_t row_bytes = 0;
  std::vector<RowPiece> pieces;  // ascending, together all rows
};

// Codes, scales, scales of scales: whoever joins more has something else in mind.
inline constexpr size_t kMaxRowParts = 8;

struct JoinedRows {
  std::vector<RowPart> parts;  // in the order of a row's bytes; 1 to kMaxRowParts

  uint32_t RowBytes() const;
};

class JoinedRowReader {
 public:
  // `rows` outlives the reader.
  explicit JoinedRowReader(const JoinedRows& rows);
  ~JoinedRowReader();
  JoinedRowReader(const JoinedRowReader&) = delete;
  JoinedRowReader& operator=(const JoinedRowReader&) = delete;

  // Rows from `first_row` on, as many as `out` has room for: whole rows, all of them in the table.
  // NOT_FOUND and the like when a file cannot be opened, DATA_LOSS when it is shorter than the
  // pieces say or the device cannot read it; each names the file. `out` then holds nothing of use.
  absl::Status Read(RowId first_row, absl::Span<std::byte> out);

 private:
  struct Source;

  const JoinedRows& rows_;
  std::vector<std::unique_ptr<Source>> sources_;  // one a part
};

}  // namespace engram
