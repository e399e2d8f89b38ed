#include "server/net/peer_uid.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"

namespace engram {

absl::StatusOr<uid_t> PeerUid(int socket) {
  ucred peer{};
  socklen_t bytes = sizeof(peer);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) {
    return absl::ErrnoToStatus(errno, "cannot see who connected");
  }
  return peer.uid;
}

absl::Status CheckPeerUid(int socket, absl::Span<const uint32_t> allowed, absl::string_view what,
                          absl::string_view flag) {
  ENGRAM_ASSIGN_OR_RETURN(const uid_t uid, PeerUid(socket));
  if (uid == geteuid() || absl::c_linear_search(allowed, uid)) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("uid ", uid, " may not ", what, ": start engramd with ", flag, " ", uid));
}

}  // namespace engram
