#include "server/net/connections.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace engram {
namespace {

// What a connection may have sent beyond what it took and be as others: requests under way,
// headers, and what a client says to manage its windows.
constexpr uint64_t kLeastUnanswered = 16 << 10;
// Whoever attached, or looked anything up, took more.
constexpr uint64_t kNextToNothing = 2 << 10;

std::optional<Connections::Traffic> TcpTraffic(int fd) {
  tcp_info info{};
  socklen_t bytes = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) return std::nullopt;
  return Connections::Traffic{.received = info.tcpi_bytes_received,
                              .taken = info.tcpi_bytes_acked,
                              .silent = absl::Milliseconds(info.tcpi_last_data_recv)};
}

bool IsStillSocket(int fd, ino_t inode) {
  struct stat file;
  return fstat(fd, &file) == 0 && S_ISSOCK(file.st_mode) && file.st_ino == inode;
}

}  // namespace

Connections::Connections() : Connections(&TcpTraffic) {}

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

uint64_t Connections::EndUnanswered(uint64_t bytes) {
  const auto unanswered = [](const Open& one) {
    return one.traffic.received - std::min(one.traffic.received, one.traffic.taken);
  };
  MutexLock lock(mutex_);
  std::vector<Open> open = Measured();
  std::sort(open.begin(), open.end(),
            [&](const Open& a, const Open& b) { return unanswered(a) > unanswered(b); });
  uint64_t found = 0;
  for (const Open& one : open) {
    if (found >= bytes || unanswered(one) <= kLeastUnanswered) break;
    found += unanswered(one);
    End(one);
  }
  return found;
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
