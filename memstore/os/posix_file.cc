#include "memstore/os/posix_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace engram {

namespace {

// What tells a file that is too long from a want of descriptors or memory, whose code it has.
constexpr char kTooLong[] = "engram/file-too-long";

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

std::string JoinPath(absl::string_view directory, absl::string_view name) {
  return absl::StrCat(directory, "/", name);
}

absl::Status PosixError(absl::string_view doing, absl::string_view path) {
  const int error = errno;
  absl::Status status = absl::ErrnoToStatus(error, absl::StrCat("cannot ", doing, " ", path));
  if (error == EMFILE || error == ENFILE) {
    return absl::Status(
        status.code(),
        absl::StrCat(status.message(), " (raise the limit of open files: ",
                     error == EMFILE ? "`ulimit -n`, LimitNOFILE=" : "fs.file-max", ")"));
  }
  if (error != EFBIG) return status;
  return absl::Status(status.code(),
                      absl::StrCat(status.message(),
                                   " (a file may not get so long here: raise "
                                   "`ulimit -f`, or choose a place on another file system)"));
}

absl::Status ReadError(absl::string_view path, uint64_t offset) {
  if (errno != EIO) return PosixError("read", path);
  return absl::DataLossError(absl::StrCat("the device can't read ", path, " at byte ", offset,
                                          " (EIO): look at the kernel's log, and take the file "
                                          "from another copy"));
}

absl::StatusOr<FileDescriptor> OpenFile(const std::string& path, int flags, uint32_t mode) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return PosixError("open", path);
  return FileDescriptor(fd);
}

absl::StatusOr<uint64_t> RegularFileBytes(const FileDescriptor& file, absl::string_view path) {
  struct stat stat;
  if (fstat(file.get(), &stat) != 0) return PosixError("look at", path);
  if (!S_ISREG(stat.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  }
  return static_cast<uint64_t>(stat.st_size);
}

absl::Status ReadFully(const FileDescriptor& file, uint64_t offset, absl::Span<std::byte> out,
                       absl::string_view path) {
  while (!out.empty()) {
    const ssize_t n = pread(file.get(), out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ReadError(path, offset);
    if (n == 0) {
      return absl::DataLossError(absl::StrCat(path, " ends at byte ", offset, ", ", out.size(),
                                              " bytes early: it was cut off"));
    }
    out.remove_prefix(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return absl::OkStatus();
}

absl::Status WriteFully(const FileDescriptor& file, uint64_t offset,
                        absl::Span<const std::byte> bytes, absl::string_view path) {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return PosixError("write to", path);
    bytes.remove_prefix(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadWholeFile(const std::string& path, uint64_t max_bytes) {
  // Not to hang on a named pipe: what is no regular file is refused below.
  absl::StatusOr<FileDescriptor> file = OpenFile(path, O_RDONLY | O_NONBLOCK);
  if (!file.ok()) return file.status();
  absl::StatusOr<uint64_t> bytes = RegularFileBytes(*file, path);
  if (!bytes.ok()) return bytes.status();
  if (*bytes > max_bytes) {
    absl::Status status = absl::ResourceExhaustedError(absl::StrCat(
        path, " has ", *bytes, " bytes; at most ", max_bytes, " are read of such a file"));
    status.SetPayload(kTooLong, absl::Cord());
    return status;
  }
  std::string text(*bytes, '\0');
  absl::Status read = ReadFully(
      *file, 0, absl::MakeSpan(reinterpret_cast<std::byte*>(text.data()), text.size()), path);
  if (!read.ok()) return read;
  return text;
}

bool IsFileTooLong(const absl::Status& status) { return status.GetPayload(kTooLong).has_value(); }

absl::Status WriteNewFileDurably(const std::string& path, absl::string_view bytes) {
  absl::StatusOr<FileDescriptor> file = OpenFile(path, O_WRONLY | O_CREAT | O_EXCL);
  if (!file.ok()) return file.status();
  absl::Status written =
      WriteFully(*file, 0, {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, path);
  if (!written.ok()) return written;
  if (fsync(file->get()) != 0) return PosixError("sync", path);
  return absl::OkStatus();
}

absl::Status SyncDirectory(const std::string& path) {
  absl::StatusOr<FileDescriptor> directory = OpenFile(path, O_RDONLY | O_DIRECTORY);
  if (!directory.ok()) return directory.status();
  if (fsync(directory->get()) == 0) return absl::OkStatus();
  // Such a file system (SMB, some of FUSE) has no call for it: what it promises of names it keeps
  // without.
  if (errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS) return absl::OkStatus();
  return PosixError("sync", path);
}

}  // namespace engram
