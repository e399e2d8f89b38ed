#include "server/security/unix_peers.h"

#include <sys/stat.h>

#include "server/security/peer_uid.h"

namespace engram {

void UnixPeers::Add(int fd) {
  struct stat file {};
  const absl::StatusOr<uid_t> uid = PeerUid(fd);
  if (!uid.ok() || fstat(fd, &file) != 0) return;
  MutexLock lock(mutex_);
  peers_[fd] = {.socket = file.st_ino, .uid = *uid};
}

std::set<uid_t> UnixPeers::Uids() const {
  std::set<uid_t> uids;
  MutexLock lock(mutex_);
  for (const auto& [fd, peer] : peers_) {
    // The number may be something else's by now.
    struct stat file {};
    if (fstat(fd, &file) != 0 || !S_ISSOCK(file.st_mode) || file.st_ino != peer.socket) continue;
    uids.insert(peer.uid);
  }
  return uids;
}

}  // namespace engram
