// What engramd does with a connection that was accepted, before gRPC has it.
#include <unistd.h>

#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "server/base/log.h"
#include "server/engramd.h"
#include "server/net/hand_to_grpc.h"
#include "server/net/peer_uid.h"
#include "server/net/socket_watch.h"

namespace engram {

// Unix sockets speak plain text, and may look at who connects; TCP speaks TLS where it is on.
Acceptor::Take Engramd::TakeConnections() {
  std::vector<int> unix_sockets;
  for (const ListenSocket& socket : sockets_) {
    if (socket.address().is_unix()) unix_sockets.push_back(socket.fd());
  }
  return [this, unix_sockets](int listen_fd, int fd) {
    const bool is_unix = absl::c_linear_search(unix_sockets, listen_fd);
    if (is_unix && !config_.unix_allow_uids.empty()) {
      const absl::Status status =
          CheckPeerUid(fd, config_.unix_allow_uids, "connect to this engramd", "--unix-allow-uid");
      if (!status.ok()) {
        LogEvent(*log_, spdlog::level::warn, "connection_refused",
                 {{"code", absl::StatusCodeToString(status.code())}},
                 std::string(status.message()));
        close(fd);
        return;
      }
    }
    const bool tls = !is_unix && tls_connections_ != nullptr;
    if (const absl::Status status = WatchSocket(fd, tls ? Wire::kTls : Wire::kPlain, clock_);
        !status.ok()) {
      LogEvent(*log_, spdlog::level::warn, "connection_refused", {{"for", "lookups"}},
               absl::StrCat("a connection is turned away: ", status.message()));
      close(fd);
      return;
    }
    HandToGrpc(listen_fd, fd, clock_->Now(), connections_,
               tls ? *tls_connections_ : *plain_connections_);
  };
}

}  // namespace engram
