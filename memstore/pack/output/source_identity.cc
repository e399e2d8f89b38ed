#include "memstore/pack/output/source_identity.h"

#include <fcntl.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <map>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/file_stamp.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

// Told apart from what follows, whatever it holds.
std::string Counted(const std::string& path) { return absl::StrCat(path.size(), ":", path); }

// The file's own line; its header ends before `first_row`.
absl::StatusOr<std::string> FileLine(const std::string& path, uint64_t first_row) {
  ENGRAM_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(path, O_RDONLY | O_NONBLOCK));
  ENGRAM_ASSIGN_OR_RETURN(const FileStamp stamp, StampOf(file, path));
  std::string head(std::min({first_row, kMaxIdentityHeadBytes, stamp.bytes}), '\0');
  ENGRAM_RETURN_IF_ERROR(ReadFully(
      file, 0, absl::MakeSpan(reinterpret_cast<std::byte*>(head.data()), head.size()), path));
  std::error_code error;
  const std::filesystem::path target = std::filesystem::canonical(path, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot look at ", path));
  return absl::StrCat("file ", Counted(target.string()), " ", stamp.number, " ", stamp.bytes, " ",
                      stamp.written_ns, " ", stamp.changed_ns, " ", Sha256Hex(head), "\n");
}

// The files that rows lie in, each with the place of its first row.
std::map<std::string, uint64_t> FirstRows(const std::vector<JoinedRows>& layers) {
  std::map<std::string, uint64_t> first_rows;
  for (const JoinedRows& layer : layers) {
    for (const RowPart& part : layer.parts) {
      for (const RowPiece& piece : part.pieces) {
        const auto [file, is_new] = first_rows.try_emplace(piece.file, piece.offset);
        if (!is_new) file->second = std::min(file->second, piece.offset);
      }
    }
  }
  return first_rows;
}

}  // namespace

absl::StatusOr<std::string> SourceIdentity(const std::vector<JoinedRows>& layers) {
  std::string pieces;
  for (const JoinedRows& layer : layers) {
    absl::StrAppend(&pieces, "layer\n");
    for (const RowPart& part : layer.parts) {
      absl::StrAppend(&pieces, "part ", part.row_bytes, "\n");
      for (const RowPiece& piece : part.pieces) {
        absl::StrAppend(&pieces, "piece ", Counted(piece.file), " ", piece.offset, " ",
                        piece.first_row, " ", piece.rows, "\n");
      }
    }
  }
  std::string text;
  for (const auto& [path, first_row] : FirstRows(layers)) {
    ENGRAM_ASSIGN_OR_RETURN(const std::string line, FileLine(path, first_row));
    absl::StrAppend(&text, line);
  }
  return absl::StrCat(text, pieces);
}

}  // namespace engram
