#include "memstore/shm/held_tables.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/partition/held_check.h"

namespace engram {
namespace {

void Append(uint64_t word, std::string* out) {
  out->append(reinterpret_cast<const char*>(&word), sizeof(word));
}

// Words from the beginning on.
class Words {
 public:
  explicit Words(absl::string_view bytes) : bytes_(bytes) {}
  uint64_t left() const { return (bytes_.size() - at_) / sizeof(uint64_t); }
  bool AtEnd() const { return at_ == bytes_.size(); }
  uint64_t Take() {
    uint64_t word = 0;
    std::memcpy(&word, bytes_.data() + at_, sizeof(word));
    at_ += sizeof(word);
    return word;
  }

 private:
  absl::string_view bytes_;
  size_t at_ = 0;
};

absl::Status Damaged(absl::string_view why) {
  return absl::DataLossError(
      absl::StrCat("what engramd says of the rows that it holds is no such thing: ", why));
}

// Offsets and bytes of any size may come.
bool LiesIn(const MemoryPiece& piece, uint64_t offset, uint64_t bytes) {
  return offset >= piece.offset && offset - piece.offset <= piece.bytes &&
         bytes <= piece.bytes - (offset - piece.offset);
}

absl::Status CheckTable(const HeldTable& table, const WholeTable& whole) {
  if (absl::Status status = CheckRanges(table.rows, whole.rows); !status.ok()) {
    return Damaged(status.message());
  }
  for (const RowRange& range : table.rows.ranges) {
    const bool has_memory =
        std::any_of(table.pieces.begin(), table.pieces.end(), [&](const MemoryPiece& piece) {
          return LiesIn(piece, range.first * whole.row_bytes, range.rows * whole.row_bytes);
        });
    if (!has_memory) {
      return Damaged(absl::StrCat("rows from ", range.first, " on, ", range.rows,
                                  " in all, do not lie in one piece of memory"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<HeldTable> ReadTable(Words& words, const WholeTable& whole) {
  if (words.left() < 2) return Damaged("it ends before its last table");
  const uint64_t ranges = words.Take();
  const uint64_t pieces = words.Take();
  const uint64_t pairs = words.left() / 2;
  if (ranges > pairs || pieces > pairs - ranges) {
    return Damaged(absl::StrCat("a table of ", ranges, " ranges and ", pieces,
                                " pieces is longer than what is left"));
  }
  HeldTable table{.rows = {.table_rows = whole.rows, .ranges = {}}, .pieces = {}};
  for (uint64_t i = 0; i < ranges; ++i) {
    const uint64_t first = words.Take();
    table.rows.ranges.push_back({.first = first, .rows = words.Take()});
  }
  for (uint64_t i = 0; i < pieces; ++i) {
    const uint64_t offset = words.Take();
    table.pieces.push_back({.offset = offset, .bytes = words.Take()});
  }
  ENGRAM_RETURN_IF_ERROR(CheckTable(table, whole));
  return table;
}

}  // namespace

std::string WriteHeldTables(absl::Span<const HeldTable> tables) {
  std::string bytes;
  for (const HeldTable& table : tables) {
    Append(table.rows.ranges.size(), &bytes);
    Append(table.pieces.size(), &bytes);
    for (const RowRange& range : table.rows.ranges) {
      Append(range.first, &bytes);
      Append(range.rows, &bytes);
    }
    for (const MemoryPiece& piece : table.pieces) {
      Append(piece.offset, &bytes);
      Append(piece.bytes, &bytes);
    }
  }
  return bytes;
}

absl::StatusOr<std::vector<HeldTable>> ReadHeldTables(absl::string_view bytes,
                                                      absl::Span<const WholeTable> tables) {
  Words words(bytes);
  std::vector<HeldTable> held;
  for (const WholeTable& whole : tables) {
    ENGRAM_ASSIGN_OR_RETURN(HeldTable table, ReadTable(words, whole));
    held.push_back(std::move(table));
  }
  if (!words.AtEnd()) return Damaged("it does not end with its last table");
  return held;
}

}  // namespace engram
