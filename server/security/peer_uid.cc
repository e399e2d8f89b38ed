#include "server/security/peer_uid.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"

namespace engram {

absl::Status CheckPeerUid(int socket, absl::Span<const uint32_t> allowed, absl::string_view what,
                          absl::string_view flag) {
  ucred peer{};
  socklen_t bytes = sizeof(peer);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) {
    return absl::ErrnoToStatus(errno, "cannot see who connected");
  }
  if (peer.uid == geteuid() || absl::c_linear_search(allowed, peer.uid)) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat("uid ", peer.uid, " may not ", what,
                                                  ": start engramd with ", flag, " ", peer.uid));
}

}  // namespace engram
