// Which users are at the other ends of a server's Unix connections.
//
// gRPC tells no call's user. Who took the connections knows each one's, and so which users a call
// can come from: mostly it is one. Thread-safe. Bounded by the number of descriptors, as
// Connections.
#pragma once

#include <sys/types.h>

#include <set>

#include "absl/container/flat_hash_map.h"
#include "memstore/base/mutex.h"

namespace engram {

class UnixPeers {
 public:
  // Before its new owner has it.
  void Add(int fd) ABSL_LOCKS_EXCLUDED(mutex_);
  // Of the connections that are still open; the kernel knew them when they were made.
  std::set<uid_t> Uids() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Peer {
    ino_t socket = 0;
    uid_t uid = 0;
  };
  mutable Mutex mutex_;
  absl::flat_hash_map<int, Peer> peers_ ABSL_GUARDED_BY(mutex_);  // by descriptor
};

}  // namespace engram
