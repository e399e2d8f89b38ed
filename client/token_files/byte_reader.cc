#include "client/token_files/byte_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/standard_streams.h"

namespace engram {
namespace {

constexpr size_t kReadBytes = size_t{64} << 10;

// Where standard input is closed something else has its number, which these names would open.
bool NamesStandardInput(const std::string& path) {
  return path == "-" || path == "/dev/stdin" || path == "/dev/fd/0" || path == "/proc/self/fd/0";
}

absl::Status CannotRead(const std::string& name) {
  const int error = errno;
  const std::string message = absl::StrCat("cannot read ", name, ": ", strerrordesc_np(error));
  return error == ENOENT ? absl::NotFoundError(message) : absl::UnavailableError(message);
}

}  // namespace

absl::StatusOr<ByteReader> ByteReader::Open(const std::string& path) {
  if (NamesStandardInput(path)) ENGRAM_RETURN_IF_ERROR(CheckStandardInput());
  const std::string name = path == "-" ? "standard input" : path;
  const int fd = path == "-" ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                             : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return CannotRead(name);
  ByteReader reader(name, fd);
  struct stat stat;
  if (fstat(fd, &stat) == 0 && S_ISDIR(stat.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is a directory, not a file"));
  }
  return reader;
}

ByteReader::ByteReader(ByteReader&& other) noexcept
    : name_(std::move(other.name_)),
      fd_(std::exchange(other.fd_, -1)),
      held_(std::move(other.held_)),
      taken_(std::exchange(other.taken_, 0)) {}

ByteReader::~ByteReader() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<size_t> ByteReader::ReadOnce(char* out, size_t bytes) {
  while (true) {
    const ssize_t got = read(fd_, out, bytes);
    if (got >= 0) return static_cast<size_t>(got);
    if (errno != EINTR) return CannotRead(name_);
  }
}

absl::StatusOr<absl::string_view> ByteReader::Peek(size_t bytes) {
  held_.erase(0, std::exchange(taken_, 0));
  while (held_.size() < bytes) {
    const size_t before = held_.size();
    held_.resize(before + kReadBytes);
    const absl::StatusOr<size_t> got = ReadOnce(held_.data() + before, kReadBytes);
    held_.resize(before + (got.ok() ? *got : 0));
    if (!got.ok()) return got.status();
    if (*got == 0) break;
  }
  return held_;
}

absl::StatusOr<size_t> ByteReader::Read(void* out, size_t bytes) {
  char* const to = static_cast<char*>(out);
  size_t done = std::min(bytes, held_.size() - taken_);
  held_.copy(to, done, taken_);
  taken_ += done;
  while (done < bytes) {
    ENGRAM_ASSIGN_OR_RETURN(const size_t got, ReadOnce(to + done, bytes - done));
    if (got == 0) break;
    done += got;
  }
  return done;
}

}  // namespace engram
