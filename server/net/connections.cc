#include "server/net/connections.h"

#include <netdb.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "server/base/limits.h"

namespace engram {
namespace {

// What a connection may have sent without an answer and be as others: requests under way,
// headers, and what a client says to manage its windows.
constexpr uint64_t kLeastUnanswered = 16 << 10;
// A request under way may be as large as this at once; less than that is answered soon.
constexpr uint64_t kMostAtOnce = kMaxRequestBytes;
constexpr absl::Duration kAnsweredSoon = absl::Milliseconds(200);
// One of which something was read within this, a quarter of kMostUnread, is well, and is not looked
// at again before it is over.
constexpr absl::Duration kSilentFirst = absl::Milliseconds(2500);
// Whoever attached, or looked anything up, took more.
constexpr uint64_t kNextToNothing = 2 << 10;

bool IsStillSocket(int fd, ino_t inode) {
  struct stat file;
  return fstat(fd, &file) == 0 && S_ISSOCK(file.st_mode) && file.st_ino == inode;
}

std::string PeerName(int fd) {
  sockaddr_storage address{};
  socklen_t bytes = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (getpeername(fd, any, &bytes) != 0) return "a peer that has gone";
  if (address.ss_family == AF_UNIX) {
    return absl::StrCat("unix:", reinterpret_cast<const sockaddr_un*>(any)->sun_path);
  }
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (getnameinfo(any, bytes, host, sizeof(host), port, sizeof(port),
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "a peer without a name";
  }
  return absl::StrCat(host, ":", port);
}

}  // namespace

void Connections::Add(int fd, MonotonicTime now) {
  struct stat file;
  if (fstat(fd, &file) != 0) return;
  MutexLock lock(mutex_);
  Socket& socket = sockets_[fd];
  socket = {};
  socket.inode = file.st_ino;
  socket.since = now;
}

void Connections::ShutDown() {
  MutexLock lock(mutex_);
  for (const auto& [fd, socket] : sockets_) {
    if (IsStillSocket(fd, socket.inode)) shutdown(fd, SHUT_RDWR);
  }
}

std::vector<Connections::Open> Connections::Measured() {
  std::vector<Open> open;
  for (auto& [fd, socket] : sockets_) {
    if (socket.ended || !IsStillSocket(fd, socket.inode)) continue;
    if (const auto traffic = measure_(fd)) {
      open.push_back({.fd = fd, .socket = &socket, .traffic = *traffic});
    }
  }
  return open;
}

// Its number may be another connection's since it was looked at, if gRPC closed it in between: as
// if that one had met with a bad network.
void Connections::End(const Open& one) {
  one.socket->ended = true;
  shutdown(one.fd, SHUT_RDWR);
}

uint64_t Connections::EndUnanswered(uint64_t bytes, std::string* worst) {
  MutexLock lock(mutex_);
  std::vector<Open> open = Measured();
  std::erase_if(open, [](const Open& one) {
    return one.traffic.unanswered <= kMostAtOnce && one.traffic.unanswered_for < kAnsweredSoon;
  });
  std::sort(open.begin(), open.end(), [](const Open& a, const Open& b) {
    return a.traffic.unanswered > b.traffic.unanswered;
  });
  uint64_t found = 0;
  for (const Open& one : open) {
    if (found >= bytes || one.traffic.unanswered <= kLeastUnanswered) break;
    if (worst != nullptr && found == 0) *worst = PeerName(one.fd);
    found += one.traffic.unanswered;
    ++ended_unanswered_;
    End(one);
  }
  return found;
}

bool Connections::StandsUnread(int fd, Socket& socket, MonotonicTime now) {
  socket.unread_look = now + kSilentFirst;
  if (!IsStillSocket(fd, socket.inode)) return false;
  const std::optional<SocketTraffic> traffic = measure_(fd);
  if (!traffic.has_value()) return false;
  if (traffic->silent < kSilentFirst) {
    socket.unread_look = now + kSilentFirst - traffic->silent;
    return false;
  }
  int unread = 0;
  if (ioctl(fd, FIONREAD, &unread) != 0 || unread == 0) return false;
  socket.unread_look = now;  // at every look: it may be read again at any time
  return true;
}

size_t Connections::EndUnread(MonotonicTime now, std::string* peer) {
  MutexLock lock(mutex_);
  size_t ended = 0;
  for (auto& [fd, socket] : sockets_) {
    if (socket.ended || now < socket.unread_look) continue;
    std::optional<MonotonicTime>& since = socket.unread_since;
    if (!StandsUnread(fd, socket, now)) {
      since.reset();
    } else if (!since.has_value()) {
      since = now;
    } else if (now - *since >= kMostUnread) {
      if (peer != nullptr) *peer = PeerName(fd);
      End({.fd = fd, .socket = &socket, .traffic = {}});
      ++ended;
    }
  }
  ended_unread_ += ended;
  return ended;
}

uint64_t Connections::EndedUnread() const {
  MutexLock lock(mutex_);
  return ended_unread_;
}

uint64_t Connections::EndedUnanswered() const {
  MutexLock lock(mutex_);
  return ended_unanswered_;
}

size_t Connections::CountOpen() const {
  MutexLock lock(mutex_);
  return static_cast<size_t>(absl::c_count_if(sockets_, [](const auto& one) {
    return !one.second.ended && IsStillSocket(one.first, one.second.inode);
  }));
}

size_t Connections::EndLeastUsed(size_t count, MonotonicTime now, absl::Duration age,
                                 absl::Duration silence) {
  MutexLock lock(mutex_);
  std::vector<Open> useless, idle;
  const auto idle_for = [now](const Open& one) {
    return std::max(one.traffic.silent, now - one.socket->progressed);
  };
  for (const Open& one : Measured()) {
    Socket& socket = *one.socket;
    if (one.traffic.taken >= socket.taken + kNextToNothing) {
      socket.taken = one.traffic.taken;
      socket.progressed = now;
    }
    if (now - socket.since < age) continue;
    if (one.traffic.taken < kNextToNothing) {
      useless.push_back(one);
    } else if (idle_for(one) >= silence) {
      idle.push_back(one);
    }
  }
  std::vector<Open>& chosen = useless.empty() ? idle : useless;
  std::sort(chosen.begin(), chosen.end(), [&](const Open& a, const Open& b) {
    return useless.empty() ? idle_for(a) > idle_for(b) : a.socket->since < b.socket->since;
  });
  if (chosen.size() > count) chosen.resize(count);
  for (const Open& one : chosen) End(one);
  return chosen.size();
}

}  // namespace engram
