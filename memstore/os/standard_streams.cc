#include "memstore/os/standard_streams.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

constexpr char kNothing[] = "/dev/null";

// Before sanitizers are set up nothing of theirs may run: neither checks nor what they put in the
// place of the C library's functions.
#define ENGRAM_BEFORE_SANITIZERS \
  __attribute__((no_sanitize("thread"), no_sanitize("address"), no_sanitize("undefined")))

// Opens what is closed; the number of one that cannot be (errno says why), or -1.
ENGRAM_BEFORE_SANITIZERS int OpenThoseClosed() {
  for (int number = STDIN_FILENO; number <= STDERR_FILENO; ++number) {
    if (syscall(SYS_fcntl, number, F_GETFD) >= 0 || errno != EBADF) continue;
    const int way = number == STDOUT_FILENO ? O_RDONLY : O_WRONLY;
    // It gets the lowest number that is free, which is this one. Children inherit it.
    if (syscall(SYS_openat, AT_FDCWD, kNothing, way) != number) return number;
  }
  return -1;
}

// What OpenFirst could not open, and why: by the time of main a library may have taken its number.
int first_failed = -1;
int first_error = 0;

ENGRAM_BEFORE_SANITIZERS void OpenFirst(int, char**, char**) {
  first_failed = OpenThoseClosed();
  first_error = errno;
}

// Run before the initializers of any shared library: gRPC's opens a descriptor, and would be given
// the number of a stream that is closed. A failure is EnsureStandardStreams' to tell.
__attribute__((section(".preinit_array"), used)) void (*const open_first)(int, char**,
                                                                          char**) = OpenFirst;

// Whether it can be used in no other direction than `wrong_way`; closed is that, too.
bool IsClosed(int number, int wrong_way) {
  const int flags = fcntl(number, F_GETFL);
  return flags < 0 || (flags & O_ACCMODE) == wrong_way;
}

absl::Status Closed(absl::string_view name) {
  return absl::UnavailableError(
      absl::StrCat(name, " is closed: redirect it to a file, a pipe or /dev/null"));
}

}  // namespace

void EnsureStandardStreams(const char* program) {
  const bool failed_before = first_failed >= 0;
  const int closed = failed_before ? first_failed : OpenThoseClosed();
  if (closed < 0) return;
  const int error = failed_before ? first_error : errno;
  std::fprintf(stderr, "%s: standard stream %d is closed, and %s cannot be opened for it: %s\n",
               program, closed, kNothing, strerrordesc_np(error));
  _exit(1);
}

absl::Status CheckStandardInput() {
  return IsClosed(STDIN_FILENO, O_WRONLY) ? Closed("standard input") : absl::OkStatus();
}

absl::Status CheckStandardOutput() {
  return IsClosed(STDOUT_FILENO, O_RDONLY) ? Closed("standard output") : absl::OkStatus();
}

absl::Status PrintToEnd(absl::string_view text) {
  if (absl::Status status = CheckStandardOutput(); !status.ok()) return status;
  errno = 0;
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  // What was printed before and failed left its mark, but not its reason.
  if (written && std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return absl::OkStatus();
  const char* const reason = errno != 0 ? strerrordesc_np(errno) : "not all of it was taken";
  return absl::UnavailableError(absl::StrCat("cannot write to standard output: ", reason));
}

}  // namespace engram
