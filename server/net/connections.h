// The connections that were handed to gRPC, so that they can be ended whatever their peers do: in
// the end, for gRPC closes one only after what it writes there was taken, and a peer that was
// stopped takes nothing; and for others' sake, where there is no memory for another byte, or no
// descriptor for another connection.
//
// Who makes no progress is told by the bytes that came and went (socket_watch.h): rows are more
// bytes than the ids that ask for them, so whoever sent more than was answered has sent what
// engramd could not answer. What a client took before counts for nothing.
//
// Thread-safe. Bounded by the number of descriptors: one entry for each number that ever was a
// connection's. Ending some costs two system calls for each connection.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "server/net/socket_watch.h"

namespace engram {

class Connections {
 public:
  // Nothing: it is not known of this one.
  using Measure = std::function<std::optional<SocketTraffic>(int fd)>;

  Connections() : Connections(&TrafficOf) {}
  explicit Connections(Measure measure) : measure_(std::move(measure)) {}

  // gRPC reads what comes within milliseconds, and within seconds where cores are short.
  static constexpr absl::Duration kMostUnread = absl::Seconds(10);

  // Before its new owner has it.
  void Add(int fd, MonotonicTime now) ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends those that are still open, both ways: whoever reads or writes there sees it. Descriptors
  // whose numbers are something else's by now are left alone.
  void ShutDown() ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends those that sent most without an answer, until that is `bytes` or no other sent more than
  // kLeastUnanswered, or what is there may be a request that came just now. Returns how much it is,
  // and the peer that sent most: "10.0.0.7:41812", "unix:1000".
  uint64_t EndUnanswered(uint64_t bytes, std::string* worst = nullptr) ABSL_LOCKS_EXCLUDED(mutex_);
  // How many that was so far.
  uint64_t EndedUnanswered() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends those of which gRPC reads nothing though bytes have come, and has not for kMostUnread: one
  // that answers what nobody takes stops reading, and never sees that its peer has gone. To be
  // called again and again: what is so at the first look may have come just now. Each time it looks
  // at those that may be so by then: a few, where all go well. Returns how many it ended, and the
  // peer of one.
  size_t EndUnread(MonotonicTime now, std::string* peer = nullptr) ABSL_LOCKS_EXCLUDED(mutex_);
  // How many that was so far.
  uint64_t EndedUnread() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Of those that were added.
  size_t CountOpen() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends up to `count`, to make room for others: those that have been there for `age` and took next
  // to nothing, the oldest first; where there is none, those that said nothing, or took next to
  // nothing since they were first looked at, for longest, and at least `silence`: a client that
  // only says that it lives makes no progress. Returns how many.
  size_t EndLeastUsed(size_t count, MonotonicTime now, absl::Duration age, absl::Duration silence)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Socket {
    ino_t inode = 0;
    MonotonicTime since;
    bool ended = false;
    // When it was last seen to have taken something, and how much it had then.
    MonotonicTime progressed;
    uint64_t taken = 0;
    // Since when bytes of it lie unread and none is read; nothing: none do.
    std::optional<MonotonicTime> unread_since;
    MonotonicTime unread_look;  // no look before this finds any
  };
  struct Open {
    int fd = -1;
    Socket* socket = nullptr;
    SocketTraffic traffic;
  };

  // Whether bytes of it lie unread; sets when it is to be looked at next.
  bool StandsUnread(int fd, Socket& socket, MonotonicTime now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<Open> Measured() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void End(const Open& one);

  const Measure measure_;
  mutable Mutex mutex_;
  uint64_t ended_unanswered_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t ended_unread_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<int, Socket> sockets_ ABSL_GUARDED_BY(mutex_);  // by descriptor
};

}  // namespace engram
