// Files by descriptor, with errors that name the path: what the table room needs of POSIX.
//
// Stateless but for FileDescriptor, which owns one descriptor. Thread-safe over different ranges of
// a file. Errors: absl::ErrnoToStatus of the call, "cannot VERB PATH: REASON"; DATA_LOSS when a
// file ends early or its device can't read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace engram {

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// A directory and a name in it.
std::string JoinPath(absl::string_view directory, absl::string_view name);

// The status of the call that just set errno; `doing` is a verb: "open", "write to". A file that
// would get too long (EFBIG) is an error only in a process that ignores SIGXFSZ.
absl::Status PosixError(absl::string_view doing, absl::string_view path);

// The same of a read at `offset`: what the device can't read (EIO) is lost, DATA_LOSS.
absl::Status ReadError(absl::string_view path, uint64_t offset);

absl::StatusOr<FileDescriptor> OpenFile(const std::string& path, int flags, uint32_t mode = 0666);
// The size of a regular file; INVALID_ARGUMENT when it is something else.
absl::StatusOr<uint64_t> RegularFileBytes(const FileDescriptor& file, absl::string_view path);

// All of `out` from `offset` on; DATA_LOSS names where the file ends.
absl::Status ReadFully(const FileDescriptor& file, uint64_t offset, absl::Span<std::byte> out,
                       absl::string_view path);
absl::Status WriteFully(const FileDescriptor& file, uint64_t offset,
                        absl::Span<const std::byte> bytes, absl::string_view path);

// A whole file of at most `max_bytes`; RESOURCE_EXHAUSTED when it is longer.
absl::StatusOr<std::string> ReadWholeFile(const std::string& path, uint64_t max_bytes);
// Whether it is ReadWholeFile's word for that. The code says so of more: of a process that has no
// descriptor or memory left to open any file.
bool IsFileTooLong(const absl::Status& status);
// Makes a new file (ALREADY_EXISTS when there is one) and has it on disk when it returns.
absl::Status WriteNewFileDurably(const std::string& path, absl::string_view bytes);
// Has the directory's names on disk when it returns, where the file system can sync a directory.
absl::Status SyncDirectory(const std::string& path);

}  // namespace engram
