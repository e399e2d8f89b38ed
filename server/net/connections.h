// The connections that were handed to gRPC, so that they can be ended in the end whatever their
// peers do: gRPC closes one only after what it writes there was taken, and a peer that was stopped
// takes nothing.
//
// Thread-safe. Bounded by the number of descriptors: one entry for each number that ever was a
// connection's.
#pragma once

#include <sys/types.h>

#include "absl/container/flat_hash_map.h"
#include "memstore/base/mutex.h"

namespace engram {

class Connections {
 public:
  // Before its new owner has it.
  void Add(int fd) ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends those that are still open, both ways: whoever reads or writes there sees it. Descriptors
  // whose numbers are something else's by now are left alone.
  void ShutDown() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable Mutex mutex_;
  absl::flat_hash_map<int, ino_t> sockets_ ABSL_GUARDED_BY(mutex_);  // by descriptor
};

}  // namespace engram
