#include "memstore/os/file_stamp.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

int64_t Nanoseconds(const timespec& time) {
  constexpr int64_t kNsPerSecond = 1'000'000'000;
  return int64_t{time.tv_sec} * kNsPerSecond + time.tv_nsec;
}

}  // namespace

absl::StatusOr<FileStamp> StampOf(const FileDescriptor& file, absl::string_view path) {
  struct stat stat;
  if (fstat(file.get(), &stat) != 0) return PosixError("look at", path);
  return FileStamp{stat.st_ino, static_cast<uint64_t>(stat.st_size), Nanoseconds(stat.st_mtim),
                   Nanoseconds(stat.st_ctim)};
}

absl::string_view WhatChanged(const FileStamp& before, const FileStamp& now) {
  if (now.bytes != before.bytes) return "it has another size";
  if (now.written_ns != before.written_ns) return "it was written at another time";
  if (now.number != before.number) return "another file is in its place";
  if (now.changed_ns != before.changed_ns) {
    return "its bytes, rights, links or name changed at another time";
  }
  return "";
}

absl::Status CheckUnchanged(const std::string& path, const FileStamp& before) {
  ENGRAM_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(path, O_RDONLY | O_NONBLOCK));
  ENGRAM_ASSIGN_OR_RETURN(const FileStamp now, StampOf(file, path));
  const absl::string_view what = WhatChanged(before, now);
  if (what.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path, " was changed while it was read (", what, ")"));
}

}  // namespace engram
