// Sockets that listen, and why one can't where it can't.
//
// engramd binds and accepts itself: gRPC 1.51 never accepts again once a process has run out of
// descriptors, and removes whatever socket file is at its path when it ends. Thread-compatible;
// nothing blocks but the resolution of a host's name.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/net/listen_address.h"

namespace engram {

// Of every Unix socket's file, whatever the umask: engramd's user, its group and root may connect.
inline constexpr mode_t kUnixSocketMode = 0660;

// Bound; closed when it goes, and with it the file of a Unix socket, if it is still its own: what
// another process has put in its place stays.
class ListenSocket {
 public:
  // A socket for each address that HOST:PORT stands for on this machine, all on one port; addresses
  // that it has not (IPv6 switched off) are passed over as long as one is left. ALREADY_EXISTS when
  // somebody listens there, UNAVAILABLE with the system's reason otherwise. The socket file of a
  // process that is gone is replaced; any other file is left alone. One that is made has
  // kUnixSocketMode before anybody can connect.
  static absl::StatusOr<std::vector<ListenSocket>> Bind(const ListenAddress& address);
  // A Unix socket of packets (SOCK_SEQPACKET). Errors as Bind's; INVALID_ARGUMENT: the path is
  // longer than a socket's may be, or empty.
  static absl::StatusOr<ListenSocket> BindPackets(const std::string& path);
  ListenSocket(ListenSocket&& other) noexcept;
  ~ListenSocket();
  ListenSocket& operator=(ListenSocket&&) = delete;

  // Connections are refused before, and wait to be accepted after. Errors as Bind's: of two that
  // bound a port, one listens.
  absl::Status Listen();

  int fd() const { return fd_; }
  // As bound: with the port that came of port 0.
  const ListenAddress& address() const { return address_; }

 private:
  explicit ListenSocket(int fd, ListenAddress address) : fd_(fd), address_(std::move(address)) {}
  static absl::StatusOr<std::vector<ListenSocket>> BindTcp(const ListenAddress& address);
  // `type`: SOCK_STREAM or SOCK_SEQPACKET.
  static absl::StatusOr<ListenSocket> BindUnix(const ListenAddress& address, int type);

  int fd_ = -1;
  ListenAddress address_;
  struct stat file_ {};  // of a Unix socket, as it was bound
};

// Whether the folder of a Unix socket is there and may be written to: UNAVAILABLE names it. Touches
// nothing; OK for TCP.
absl::Status CheckSocketFolder(const ListenAddress& address);

// Whether Bind would do it now; binds nothing for longer than the call.
absl::Status CheckCanListen(const ListenAddress& address);

}  // namespace engram
