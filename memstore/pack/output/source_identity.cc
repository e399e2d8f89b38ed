#include "memstore/pack/output/source_identity.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <map>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

// Told apart from what follows, whatever it holds.
std::string Counted(const std::string& path) { return absl::StrCat(path.size(), ":", path); }

std::string Time(const timespec& time) {
  return absl::StrCat(time.tv_sec, ".", absl::Dec(time.tv_nsec, absl::kZeroPad9));
}

// The file's own line; its header ends before `first_row`.
absl::StatusOr<std::string> FileLine(const std::string& path, uint64_t first_row) {
  ENGRAM_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(path, O_RDONLY | O_NONBLOCK));
  struct stat stat;
  if (fstat(file.get(), &stat) != 0) return PosixError("look at", path);
  std::string head(std::min({first_row, kMaxIdentityHeadBytes, uint64_t(stat.st_size)}), '\0');
  ENGRAM_RETURN_IF_ERROR(ReadFully(
      file, 0, absl::MakeSpan(reinterpret_cast<std::byte*>(head.data()), head.size()), path));
  std::error_code error;
  const std::filesystem::path target = std::filesystem::canonical(path, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot look at ", path));
  // The time of change is the file system's own: who sets a file's time back sets that one forth.
  return absl::StrCat("file ", Counted(target.string()), " ", stat.st_ino, " ", stat.st_size, " ",
                      Time(stat.st_mtim), " ", Time(stat.st_ctim), " ", Sha256Hex(head), "\n");
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

absl::Status Changed(absl::string_view file) {
  return absl::FailedPreconditionError(
      absl::StrCat(file,
                   " was changed while its rows were read, and the table set would be a mix "
                   "of both: pack it again when nothing writes to it"));
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

absl::Status CheckSameSource(const std::string& before, const std::vector<JoinedRows>& layers) {
  ENGRAM_ASSIGN_OR_RETURN(const std::string now, SourceIdentity(layers));
  if (now == before) return absl::OkStatus();
  for (const auto& [path, first_row] : FirstRows(layers)) {
    ENGRAM_ASSIGN_OR_RETURN(const std::string line, FileLine(path, first_row));
    if (!absl::StrContains(before, line)) return Changed(path);
  }
  return Changed("a file of the model");
}

}  // namespace engram
