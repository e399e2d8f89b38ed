// How long the calling thread was ready to run and had to wait for a core, as the kernel counts it
// (/proc/thread-self/schedstat): the one figure that says, from within, whether others want the
// core that a thread keeps busy.
//
// Used by one thread at a time, which may change: the figure is the calling thread's. Cost: a
// microsecond; ten the first time a thread asks.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "memstore/os/posix_file.h"

namespace engram {

class RunDelay {
 public:
  struct Reading {
    int64_t delay_ns = 0;  // since the thread began
    pid_t thread = 0;      // whose it is: readings of two threads are not compared
  };

  // nullopt where the kernel does not count it, or /proc is not there.
  std::optional<Reading> Read();

 private:
  FileDescriptor file_;
  pid_t opened_by_ = 0;
};

}  // namespace engram
