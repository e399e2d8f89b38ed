#include "client/cli/streams.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace engram::cli {
namespace {

using Clock = std::chrono::steady_clock;

// A bar is worth showing only for what a person would wonder about.
constexpr auto kShowAfter = std::chrono::seconds(2);
constexpr auto kTerminalInterval = std::chrono::milliseconds(200);
constexpr auto kPlainInterval = std::chrono::seconds(10);
constexpr int kBarWidth = 30;

absl::Status ErrnoStatus(absl::string_view what, const std::string& path) {
  const int error = errno;
  const std::string message = absl::StrCat(what, " ", path, ": ", strerrordesc_np(error));
  if (error == ENOENT) return absl::NotFoundError(message);
  if (error == ENOSPC || error == EDQUOT) return absl::ResourceExhaustedError(message);
  return absl::UnavailableError(message);
}

}  // namespace

absl::StatusOr<ElementReader> ElementReader::Open(const std::string& path, size_t element_bytes) {
  if (path == "-") return ElementReader("standard input", dup(STDIN_FILENO), element_bytes);
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus("cannot read", path);
  struct stat stat;
  if (fstat(fd, &stat) == 0 && S_ISDIR(stat.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, " is a directory, not a file"));
  }
  return ElementReader(path, fd, element_bytes);
}

ElementReader::ElementReader(std::string path, int fd, size_t element_bytes)
    : path_(std::move(path)), fd_(fd), element_bytes_(element_bytes) {}

ElementReader::ElementReader(ElementReader&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      element_bytes_(other.element_bytes_) {}

ElementReader::~ElementReader() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<size_t> ElementReader::Read(void* out, size_t count) {
  const size_t wanted = count * element_bytes_;
  size_t got = 0;
  while (got < wanted) {
    const ssize_t n = read(fd_, static_cast<char*>(out) + got, wanted - got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("cannot read", path_);
    if (n == 0) break;
    got += static_cast<size_t>(n);
  }
  if (got % element_bytes_ != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, " ends in the middle of an element: its size is not a multiple of ",
                     element_bytes_, " bytes; is it the right file, and whole?"));
  }
  return got / element_bytes_;
}

absl::StatusOr<OutputFile> OutputFile::Open(const std::string& path) {
  if (path == "-") return OutputFile("standard output", "", dup(STDOUT_FILENO));
  struct stat stat;
  const bool exists = ::stat(path.c_str(), &stat) == 0;
  if (exists && S_ISDIR(stat.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is a directory, not a file"));
  }
  if (exists && !S_ISREG(stat.st_mode)) {
    const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return ErrnoStatus("cannot write", path);
    return OutputFile(path, "", fd);
  }
  // An existing link's target is replaced, not the link.
  std::string target = path;
  if (char resolved[PATH_MAX]; exists && realpath(path.c_str(), resolved) != nullptr) {
    target = resolved;
  }
  std::string aside = absl::StrCat(target, ".XXXXXX");
  const int fd = mkostemp(aside.data(), O_CLOEXEC);
  if (fd < 0) return ErrnoStatus("cannot write", path);
  // mkostemp makes it private; the result gets what an ordinary open would have given.
  const mode_t mask = umask(0);
  umask(mask);
  fchmod(fd, exists ? stat.st_mode & 07777 : 0666 & ~mask);
  return OutputFile(target, aside, fd);
}

OutputFile::OutputFile(std::string path, std::string aside, int fd)
    : path_(std::move(path)), aside_(std::move(aside)), fd_(fd) {}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
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

absl::Status OutputFile::Commit() {
  const int fd = std::exchange(fd_, -1);
  if (close(fd) != 0) return ErrnoStatus("cannot write", path_);
  if (aside_.empty()) return absl::OkStatus();
  if (rename(aside_.c_str(), path_.c_str()) != 0) return ErrnoStatus("cannot write", path_);
  aside_.clear();
  return absl::OkStatus();
}

struct Progress::State {
  std::string what;
  std::string unit;
  bool terminal = isatty(STDERR_FILENO) == 1;
  bool shown = false;
  Clock::time_point begin = Clock::now();
  Clock::time_point last = begin;
};

Progress::Progress(std::string what, std::string unit) : state_(std::make_unique<State>()) {
  state_->what = std::move(what);
  state_->unit = std::move(unit);
}

Progress::~Progress() {
  if (state_->shown && state_->terminal) std::fputc('\n', stderr);
}

void Progress::Update(uint64_t done, uint64_t total) {
  State& s = *state_;
  const auto now = Clock::now();
  const bool due = s.terminal ? now - s.last >= kTerminalInterval : now - s.last >= kPlainInterval;
  const bool finished = total > 0 && done >= total;
  if (now - s.begin < kShowAfter || !(due || (finished && s.shown))) return;
  s.last = now;
  s.shown = true;
  const double seconds = std::chrono::duration<double>(now - s.begin).count();
  const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0;
  const double rate = static_cast<double>(done) / seconds;
  const double left = rate > 0 && total > done ? static_cast<double>(total - done) / rate : 0;
  const std::string numbers =
      absl::StrFormat("%3.0f %%, %.0f %s/s, %.0f s left", share * 100, rate, s.unit, left);
  if (!s.terminal) {
    absl::FPrintF(stderr, "%s: %s\n", s.what, numbers);
    return;
  }
  const int filled = static_cast<int>(share * kBarWidth);
  absl::FPrintF(stderr, "\r%s [%s%s] %s\x1b[K", s.what, std::string(filled, '#'),
                std::string(kBarWidth - filled, '.'), numbers);
  std::fflush(stderr);
}

}  // namespace engram::cli
