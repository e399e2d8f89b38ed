#include "memstore/pack/output/source_identity.h"

#include <fcntl.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "memstore/base/quote_for_message.h"
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

// What a file's line says of it.
struct FileSaid {
  FileStamp stamp;
  std::string head_sha256;
};

// The first word of `text`, which is taken off with the character behind it.
absl::string_view TakeWord(absl::string_view& text, char end) {
  const absl::string_view word = text.substr(0, text.find(end));
  text.remove_prefix(std::min(word.size() + 1, text.size()));
  return word;
}

// Those of an identity, by path, up to what is no file's line.
std::map<std::string, FileSaid> FilesOf(absl::string_view identity) {
  std::map<std::string, FileSaid> files;
  size_t path_bytes = 0;
  while (absl::ConsumePrefix(&identity, "file ") &&
         absl::SimpleAtoi(TakeWord(identity, ':'), &path_bytes) && path_bytes < identity.size()) {
    const std::string path(identity.substr(0, path_bytes));
    identity.remove_prefix(path_bytes + 1);
    FileSaid said;
    if (!absl::SimpleAtoi(TakeWord(identity, ' '), &said.stamp.number) ||
        !absl::SimpleAtoi(TakeWord(identity, ' '), &said.stamp.bytes) ||
        !absl::SimpleAtoi(TakeWord(identity, ' '), &said.stamp.written_ns) ||
        !absl::SimpleAtoi(TakeWord(identity, ' '), &said.stamp.changed_ns)) {
      break;
    }
    said.head_sha256 = std::string(TakeWord(identity, '\n'));
    files.emplace(path, std::move(said));
  }
  return files;
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

std::string ChangedFile(absl::string_view then, absl::string_view now) {
  const std::map<std::string, FileSaid> before = FilesOf(then);
  for (const auto& [path, said] : FilesOf(now)) {
    const auto file = before.find(path);
    if (file == before.end()) continue;
    absl::string_view what = WhatChanged(file->second.stamp, said.stamp);
    if (what.empty() && file->second.head_sha256 != said.head_sha256)
      what = "its header is another";
    if (!what.empty()) return absl::StrCat(QuotePathForMessage(path), ": ", what);
  }
  return "";
}

}  // namespace engram
