#include "memstore/table/standard_streams.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

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

}  // namespace engram
