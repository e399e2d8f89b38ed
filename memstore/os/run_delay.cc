#include "memstore/os/run_delay.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>

namespace engram {

std::optional<RunDelay::Reading> RunDelay::Read() {
  const pid_t self = gettid();
  char text[96];
  // A number that was another thread's before leads to a file of which nothing can be read.
  ssize_t bytes = opened_by_ == self ? pread(file_.get(), text, sizeof(text), 0) : -1;
  if (bytes <= 0) {
    file_ = FileDescriptor(open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC));
    opened_by_ = file_.is_open() ? self : 0;
    if (file_.is_open()) bytes = pread(file_.get(), text, sizeof(text), 0);
  }
  if (bytes <= 0) return std::nullopt;
  // "CPU_NS DELAY_NS SLICES"
  const char* const end = text + bytes;
  int64_t cpu_ns = 0;
  Reading reading{.delay_ns = 0, .thread = self};
  const auto first = std::from_chars(text, end, cpu_ns);
  if (first.ec != std::errc() || first.ptr == end ||
      std::from_chars(first.ptr + 1, end, reading.delay_ns).ec != std::errc()) {
    return std::nullopt;
  }
  return reading;
}

}  // namespace engram
