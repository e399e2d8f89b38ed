#include "server/net/connections.h"

#include <sys/socket.h>
#include <sys/stat.h>

namespace engram {

void Connections::Add(int fd) {
  struct stat file;
  if (fstat(fd, &file) != 0) return;
  MutexLock lock(mutex_);
  sockets_[fd] = file.st_ino;
}

void Connections::ShutDown() const {
  MutexLock lock(mutex_);
  for (const auto& [fd, inode] : sockets_) {
    struct stat file;
    if (fstat(fd, &file) == 0 && S_ISSOCK(file.st_mode) && file.st_ino == inode) {
      shutdown(fd, SHUT_RDWR);
    }
  }
}

}  // namespace engram
