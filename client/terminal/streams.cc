#include "client/terminal/streams.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/os/standard_streams.h"

namespace engram::cli {
namespace {

// A process's open files by number; one without a name is named through it.
constexpr char kOwnFiles[] = "/proc/self/fd";
// Names that are tried for it; more than one is taken only by what killed processes left.
constexpr int kMaxNames = 100;

// Whether it is a name of this process's own stream of that number. One that is closed has
// something in its place, which these names would open anew, as a file that takes everything.
bool NamesStream(const std::string& path, absl::string_view device, int number) {
  return path == "-" || path == device || path == absl::StrCat("/dev/fd/", number) ||
         path == absl::StrCat(kOwnFiles, "/", number);
}

absl::Status ErrnoStatus(absl::string_view what, const std::string& path) {
  const int error = errno;
  const std::string message = absl::StrCat(what, " ", path, ": ", strerrordesc_np(error));
  if (error == ENOENT) return absl::NotFoundError(message);
  if (error == ENOSPC || error == EDQUOT) return absl::ResourceExhaustedError(message);
  return absl::UnavailableError(message);
}

}  // namespace

absl::Status CheckNotOverInput(const std::string& output, const std::string& input,
                               const char* input_flag) {
  struct stat out, in;
  if (output == "-" || input == "-" || stat(output.c_str(), &out) != 0 ||
      stat(input.c_str(), &in) != 0 || !S_ISREG(in.st_mode) || out.st_dev != in.st_dev ||
      out.st_ino != in.st_ino) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("--output ", output, " is the file that ",
                                                 input_flag, " names (", input,
                                                 ") and would be written over: choose another"));
}

absl::Status CheckNotTerminal(const std::string& output) {
  if (output != "-" || isatty(STDOUT_FILENO) != 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--output - is a terminal here, and what would be written is no text: give --output FILE, or "
      "pipe it into a program (... --output - | xxd | head)");
}

absl::StatusOr<OutputFile> OutputFile::Open(const std::string& path) {
  if (path.empty()) {
    return absl::InvalidArgumentError(
        "--output \"\" names no file: give its path, or - for standard output");
  }
  if (NamesStream(path, "/dev/stdout", STDOUT_FILENO)) {
    if (absl::Status status = CheckStandardOutput(); !status.ok()) return status;
  }
  if (path == "-") {
    const int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return ErrnoStatus("cannot write", "standard output");
    return OutputFile("standard output", Way::kDirect, "", fd);
  }
  struct stat stat, link;
  const bool exists = ::stat(path.c_str(), &stat) == 0;
  if (!exists && lstat(path.c_str(), &link) == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " is a link to nothing: make the file it points to, or remove the link"));
  }
  if (exists && S_ISDIR(stat.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is a directory, not a file"));
  }
  if (exists && !S_ISREG(stat.st_mode)) {
    const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return ErrnoStatus("cannot write", path);
    return OutputFile(path, Way::kDirect, "", fd);
  }
  std::string target = path;
  if (char resolved[PATH_MAX]; exists && realpath(path.c_str(), resolved) != nullptr) {
    target = resolved;
  }
  absl::StatusOr<OutputFile> output = OpenAside(path, target);
  if (output.ok() && exists) fchmod(output->fd_, stat.st_mode & 07777);
  return output;
}

absl::StatusOr<OutputFile> OutputFile::OpenAside(const std::string& path,
                                                 const std::string& target) {
  const std::string directory = std::filesystem::path(target).parent_path();
  // Without /proc it could not be named later.
  if (access(kOwnFiles, X_OK) == 0) {
    const int fd =
        open(directory.empty() ? "." : directory.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    if (fd >= 0) return OutputFile(target, Way::kUnnamedAside, "", fd);
  }
  std::string aside = absl::StrCat(target, ".XXXXXX");
  const int fd = mkostemp(aside.data(), O_CLOEXEC);
  if (fd < 0) return ErrnoStatus("cannot write", path);
  // mkostemp makes it private; the result gets what an ordinary open would have given.
  const mode_t mask = umask(0);
  umask(mask);
  fchmod(fd, 0666 & ~mask);
  return OutputFile(target, Way::kNamedAside, aside, fd);
}

OutputFile::OutputFile(std::string path, Way way, std::string aside, int fd)
    : path_(std::move(path)), way_(way), aside_(std::move(aside)), fd_(fd) {}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      way_(other.way_),
      aside_(std::exchange(other.aside_, "")),
      fd_(std::exchange(other.fd_, -1)) {}

OutputFile::~OutputFile() {
  if (fd_ >= 0) close(fd_);
  if (!aside_.empty()) unlink(aside_.c_str());
}

absl::Status OutputFile::Write(absl::Span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("cannot write", path_);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status OutputFile::Name() {
  const std::string self = absl::StrCat(kOwnFiles, "/", fd_);
  // Taken by what a killed process of the same number left: the next one.
  for (int i = 0; i < kMaxNames; ++i) {
    std::string name = absl::StrCat(path_, ".", getpid(), "-", i);
    if (linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      aside_ = std::move(name);
      return absl::OkStatus();
    }
    if (errno != EEXIST) break;
  }
  return ErrnoStatus("cannot write", path_);
}

absl::Status OutputFile::Commit() {
  if (way_ == Way::kUnnamedAside) {
    if (absl::Status status = Name(); !status.ok()) return status;
  }
  const int fd = std::exchange(fd_, -1);
  if (close(fd) != 0) return ErrnoStatus("cannot write", path_);
  if (way_ == Way::kDirect) return absl::OkStatus();
  if (rename(aside_.c_str(), path_.c_str()) != 0) return ErrnoStatus("cannot write", path_);
  aside_.clear();
  return absl::OkStatus();
}

}  // namespace engram::cli
