// What gRPC reads from clients and sends to them, looked at in between: how much it is, for every
// kind of socket, and what HTTP/2 there is in it (http2_limits.h).
//
// gRPC has no place for a look at what comes before it does, and the kernel counts nothing for Unix
// sockets. So recvmsg, sendmsg, getpeername, SSL_read and SSL_write of a program that links this
// are those of socket_watch.cc, which look at what the system's and OpenSSL's own do for the
// sockets that are watched, and for each server's end of TLS, and pass on the rest untouched. A
// connection beyond the limits reads as if its client had ended it: gRPC closes it and cancels its
// calls.
//
// gRPC says nothing of who is at the other end of a Unix socket but the socket's name, which its
// owner chooses. For those that are watched getpeername is ours as well: the name is the user's
// number, so that the peer of a call (grpc::ServerContext::peer) is "unix:1000".
//
// Where a thread that is no loop's comes to read from a client, it waits while loops are behind.
//
// It is the process's, as descriptors are. Thread-safe. Memory: some 200 bytes for each descriptor
// number that was ever watched. Cost: some tens of nanoseconds for each read and write.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "memstore/base/clock.h"

namespace engram {

enum class Wire : uint8_t { kPlain, kTls };
// Calls of clients are taken by loops (call_backlog.h).
enum class Whose : uint8_t { kClients, kOperators };

struct SocketTraffic {
  // Bytes that came beyond those that were sent, never less than none: what was sent in advance
  // counts for nothing later.
  uint64_t unanswered = 0;
  absl::Duration unanswered_for = absl::ZeroDuration();  // since there were none
  uint64_t taken = 0;                                    // by the peer, of what was sent
  absl::Duration silent = absl::ZeroDuration();          // since something came
};

// Connections that were ended for what came, since the process began.
struct EndedForFrames {
  uint64_t long_header_blocks = 0;
  uint64_t idle_frames = 0;
  uint64_t unanswered = 0;
};

// INTERNAL where libraries' calls are not the ones that look: the program was linked so that they
// find the system's own.
absl::Status CheckSocketsCanBeWatched();

// From now on, before gRPC has it, and until its number is something else's. `clock` lives as long
// as the process. RESOURCE_EXHAUSTED: its number is too large. ErrnoToStatus: it is no socket. One
// that has sent more than `most_unanswered` bytes without as many in answer is ended, too.
absl::Status WatchSocket(int fd, Wire wire, const Clock* clock, Whose whose = Whose::kClients,
                         uint64_t most_unanswered = std::numeric_limits<uint64_t>::max());
// Nothing: it was never watched. The caller knows that `fd` is the same still.
std::optional<SocketTraffic> TrafficOf(int fd);
EndedForFrames CountEndedForFrames();

}  // namespace engram
