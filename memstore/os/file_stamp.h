// What tells a file from another at its path, and from itself before a change.
//
// Stateless, thread-safe. Cost: one stat of the open file.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/os/posix_file.h"

namespace engram {

struct FileStamp {
  uint64_t number = 0;  // its inode's
  uint64_t bytes = 0;
  int64_t written_ns = 0;  // when its bytes were last written, in nanoseconds since 1970
  // When anything of it last changed: bytes, rights, links or name. The file system's own: a
  // program that sets `written_ns` back sets this one forward.
  int64_t changed_ns = 0;

  bool operator==(const FileStamp&) const = default;
};

// Errors: "cannot look at PATH: REASON".
absl::StatusOr<FileStamp> StampOf(const FileDescriptor& file, absl::string_view path);

// What is not the same any more, the most telling first; empty when all is.
absl::string_view WhatChanged(const FileStamp& before, const FileStamp& now);

// Opens `path` and compares. FAILED_PRECONDITION names the file and what changed, without a fix;
// else the errors of opening it.
absl::Status CheckUnchanged(const std::string& path, const FileStamp& before);

}  // namespace engram
