#include "memstore/os/run_delay.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>

namespace engram {

std::optional<RunDelay::Reading> RunDelay::Read() {
  if (unknown_) return std::nullopt;
  const pthread_t self = pthread_self();
  if (!file_.is_open() || pthread_equal(opened_by_, self) == 0) {
    file_ = FileDescriptor(open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC));
    opened_by_ = self;
  }
  // "CPU_NS DELAY_NS SLICES"
  char text[96];
  const ssize_t bytes = file_.is_open() ? pread(file_.get(), text, sizeof(text), 0) : -1;
  if (bytes <= 0) {
    unknown_ = true;
    return std::nullopt;
  }
  const char* const end = text + bytes;
  int64_t cpu_ns = 0;
  Reading reading{.thread = self};
  const auto first = std::from_chars(text, end, cpu_ns);
  if (first.ec != std::errc() || first.ptr == end ||
      std::from_chars(first.ptr + 1, end, reading.delay_ns).ec != std::errc()) {
    unknown_ = true;
    return std::nullopt;
  }
  return reading;
}

}  // namespace engram
