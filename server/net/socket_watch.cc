#include "server/net/socket_watch.h"

#include <dlfcn.h>
#include <linux/sockios.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"
#include "server/net/call_backlog.h"
#include "server/net/http2_limits.h"
#include "server/net/peer_uid.h"

namespace engram {
namespace {

// More than engramd lets connections have (RaiseFileLimit).
constexpr size_t kMostDescriptors = size_t{1} << 15;

struct Watched {
  // Set by WatchSocket, before gRPC reads, and its reader's then.
  ino_t inode = 0;
  Wire wire = Wire::kPlain;
  Whose whose = Whose::kClients;
  Http2Limits limits;
  uint64_t most_unanswered = 0;
  std::optional<uid_t> user;  // of a Unix socket's other end
  // For any thread.
  std::atomic<const Clock*> clock{nullptr};
  std::atomic<uint64_t> unanswered{0}, sent{0};
  // Before `sent`, which counts what was taken: a peer may answer before that is known here.
  std::atomic<bool> sends{false};
  std::atomic<int64_t> received_ns{0}, unanswered_since_ns{0};
};

std::atomic<uint64_t> long_header_blocks{0}, idle_frames{0}, too_much_unanswered{0};

// By descriptor. What was made for a number stays: the next connection that has it uses it.
std::array<std::atomic<Watched*>, kMostDescriptors> watched_sockets{};

Watched* Find(int fd) {
  if (fd < 0 || static_cast<size_t>(fd) >= kMostDescriptors) return nullptr;
  return watched_sockets[static_cast<size_t>(fd)].load(std::memory_order_acquire);
}

ino_t Inode(int fd) {
  struct stat file {};
  return fstat(fd, &file) == 0 ? file.st_ino : 0;
}

void Count(Http2Limits::Verdict verdict) {
  // Calls that no settings hold are counted with the frames that carry nothing.
  const bool long_block = verdict == Http2Limits::Verdict::kLongHeaderBlock;
  (long_block ? long_header_blocks : idle_frames).fetch_add(1, std::memory_order_relaxed);
}

// False: the connection is to end.
bool LookAtReceived(int fd, const msghdr& message, size_t bytes) {
  Watched* const watched = Find(fd);
  if (watched == nullptr) return true;
  const auto now = [clock = watched->clock.load(std::memory_order_relaxed)] {
    return clock->Now();
  };
  const int64_t now_ns = now().nanoseconds();
  watched->received_ns.store(now_ns, std::memory_order_relaxed);
  // Its reader alone adds, so that who finds something finds since when as well.
  if (watched->unanswered.load(std::memory_order_relaxed) == 0) {
    watched->unanswered_since_ns.store(now_ns, std::memory_order_release);
  }
  const uint64_t before = watched->unanswered.fetch_add(bytes, std::memory_order_release);
  if (before + bytes > watched->most_unanswered && Inode(fd) == watched->inode) {
    too_much_unanswered.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  if (watched->wire == Wire::kTls) return true;
  const bool sends = watched->sends.load(std::memory_order_relaxed);
  const uint64_t sent =
      std::max<uint64_t>(watched->sent.load(std::memory_order_relaxed), sends ? 1 : 0);
  auto verdict = Http2Limits::Verdict::kFine;
  const uint64_t calls = watched->limits.calls();
  for (size_t i = 0; i < message.msg_iovlen && bytes > 0; ++i) {
    const size_t more = std::min(bytes, message.msg_iov[i].iov_len);
    verdict = watched->limits.Take({static_cast<const char*>(message.msg_iov[i].iov_base), more},
                                   sent, now);
    bytes -= more;
  }
  if (watched->whose == Whose::kClients) CallsBegan(watched->limits.calls() - calls);
  if (verdict == Http2Limits::Verdict::kFine) return true;
  // The number may be another socket's by now, that nobody asked to watch.
  if (Inode(fd) != watched->inode) return true;
  Count(verdict);
  return false;
}

void BeforeRead(int fd) {
  const Watched* const watched = Find(fd);
  if (watched != nullptr && watched->whose == Whose::kClients) AwaitLoops(RealClock());
}

void BeforeSend(int fd) {
  Watched* const watched = Find(fd);
  if (watched == nullptr || watched->sends.load(std::memory_order_relaxed)) return;
  watched->sends.store(true, std::memory_order_relaxed);
}

void LookAtSent(int fd, size_t bytes) {
  Watched* const watched = Find(fd);
  if (watched == nullptr) return;
  watched->sent.fetch_add(bytes, std::memory_order_relaxed);
  uint64_t unanswered = watched->unanswered.load(std::memory_order_relaxed);
  while (!watched->unanswered.compare_exchange_weak(
      unanswered, unanswered - std::min<uint64_t>(unanswered, bytes), std::memory_order_relaxed)) {
  }
}

// Names the user at the other end of a Unix socket, if it is one that is watched.
void NameUser(int fd, sockaddr* address, socklen_t* bytes, socklen_t room) {
  const Watched* const watched = Find(fd);
  if (watched == nullptr || !watched->user.has_value() || Inode(fd) != watched->inode) return;
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  const std::string user = absl::StrCat(*watched->user);
  std::copy(user.begin(), user.end(), name.sun_path);
  *bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + user.size() + 1);
  std::memcpy(address, &name, std::min(*bytes, room));
}

// The function of that name that the program would call if there were none here.
template <typename Function>
Function* Next(const char* name) {
  void* const next = dlsym(RTLD_NEXT, name);
  ENGRAM_CHECK(next != nullptr, name);
  return reinterpret_cast<Function*>(next);
}

struct TlsConnection {
  Http2Limits limits;  // its reader's
  std::atomic<uint64_t> sent{0};
};

// Where a connection of TLS keeps its own.
int TlsConnectionIndex() {
  static const int index = SSL_get_ex_new_index(
      0, nullptr, nullptr, nullptr, [](void*, void* connection, CRYPTO_EX_DATA*, int, long, void*) {
        delete static_cast<TlsConnection*>(connection);
      });
  return index;
}

// Null where there is no memory for one. gRPC does not read and write a connection at the same
// time.
TlsConnection* ConnectionOf(SSL* ssl) {
  auto* const known = static_cast<TlsConnection*>(SSL_get_ex_data(ssl, TlsConnectionIndex()));
  if (known != nullptr) return known;
  auto made = std::make_unique<TlsConnection>();
  return SSL_set_ex_data(ssl, TlsConnectionIndex(), made.get()) == 1 ? made.release() : nullptr;
}

// False: the connection is to end.
bool LookAtDecrypted(SSL* ssl, std::string_view bytes) {
  TlsConnection* const connection = ConnectionOf(ssl);
  if (connection == nullptr) return false;
  const uint64_t sent = connection->sent.load(std::memory_order_relaxed);
  const uint64_t calls = connection->limits.calls();
  const auto verdict = connection->limits.Take(bytes, sent, [] { return RealClock().Now(); });
  // Operators' as well, of which there are few: whose it is nothing here says.
  CallsBegan(connection->limits.calls() - calls);
  if (verdict == Http2Limits::Verdict::kFine) return true;
  Count(verdict);
  return false;
}

}  // namespace

absl::Status CheckSocketsCanBeWatched() {
  const std::pair<const char*, void*> calls[] = {
      {"recvmsg", reinterpret_cast<void*>(&recvmsg)},
      {"sendmsg", reinterpret_cast<void*>(&sendmsg)},
      {"getpeername", reinterpret_cast<void*>(&getpeername)},
      {"SSL_read", reinterpret_cast<void*>(&SSL_read)},
      {"SSL_write", reinterpret_cast<void*>(&SSL_write)}};
  for (const auto& [name, ours] : calls) {
    if (dlsym(RTLD_DEFAULT, name) == ours) continue;
    return absl::InternalError(
        absl::StrCat("gRPC's reads can't be looked at: this program exports no ", name));
  }
  return absl::OkStatus();
}

absl::Status WatchSocket(int fd, Wire wire, const Clock* clock, Whose whose,
                         uint64_t most_unanswered) {
  if (fd < 0 || static_cast<size_t>(fd) >= kMostDescriptors) {
    return absl::ResourceExhaustedError(
        absl::StrCat("descriptor ", fd, " is beyond the ", kMostDescriptors, " that are watched"));
  }
  int family = 0;
  socklen_t bytes = sizeof(family);
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &bytes) != 0) {
    return absl::ErrnoToStatus(errno, "cannot watch a connection");
  }
  std::optional<uid_t> user;
  if (family == AF_UNIX) {
    ENGRAM_ASSIGN_OR_RETURN(user, PeerUid(fd));
  }
  Watched* watched = Find(fd);
  const bool is_new = watched == nullptr;
  if (is_new) watched = new Watched;
  watched->inode = Inode(fd);
  watched->wire = wire;
  watched->whose = whose;
  watched->user = user;
  watched->most_unanswered = most_unanswered;
  watched->clock.store(clock, std::memory_order_relaxed);
  watched->limits = Http2Limits();
  watched->unanswered.store(0, std::memory_order_relaxed);
  watched->sent.store(0, std::memory_order_relaxed);
  watched->sends.store(false, std::memory_order_relaxed);
  for (std::atomic<int64_t>* const ns : {&watched->received_ns, &watched->unanswered_since_ns}) {
    ns->store(clock->Now().nanoseconds(), std::memory_order_relaxed);
  }
  if (is_new) watched_sockets[static_cast<size_t>(fd)].store(watched, std::memory_order_release);
  return absl::OkStatus();
}

std::optional<SocketTraffic> TrafficOf(int fd) {
  const Watched* const watched = Find(fd);
  if (watched == nullptr) return std::nullopt;
  const uint64_t sent = watched->sent.load(std::memory_order_relaxed);
  int queued = 0;
  if (ioctl(fd, SIOCOUTQ, &queued) != 0) return std::nullopt;
  const MonotonicTime now = watched->clock.load(std::memory_order_relaxed)->Now();
  const auto since = [now](const std::atomic<int64_t>& ns) {
    return now - MonotonicTime::FromNanoseconds(ns.load(std::memory_order_relaxed));
  };
  return SocketTraffic{.unanswered = watched->unanswered.load(std::memory_order_acquire),
                       .unanswered_for = since(watched->unanswered_since_ns),
                       .taken = sent - std::min(sent, static_cast<uint64_t>(queued)),
                       .silent = since(watched->received_ns)};
}

EndedForFrames CountEndedForFrames() {
  return {.long_header_blocks = long_header_blocks.load(std::memory_order_relaxed),
          .idle_frames = idle_frames.load(std::memory_order_relaxed),
          .unanswered = too_much_unanswered.load(std::memory_order_relaxed)};
}

}  // namespace engram

// What libraries of this program call in the place of the system's and of OpenSSL's.
extern "C" {

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  static const auto next = engram::Next<ssize_t(int, msghdr*, int)>("recvmsg");
  engram::BeforeRead(fd);
  const ssize_t got = next(fd, message, flags);
  if (got <= 0 || (flags & (MSG_PEEK | MSG_ERRQUEUE)) != 0) return got;
  return engram::LookAtReceived(fd, *message, static_cast<size_t>(got)) ? got : 0;
}

int getpeername(int fd, sockaddr* __restrict address, socklen_t* __restrict bytes) noexcept {
  static const auto next = engram::Next<int(int, sockaddr*, socklen_t*)>("getpeername");
  const socklen_t room = bytes == nullptr ? 0 : *bytes;
  const int outcome = next(fd, address, bytes);
  if (outcome == 0 && bytes != nullptr) engram::NameUser(fd, address, bytes, room);
  return outcome;
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  static const auto next = engram::Next<ssize_t(int, const msghdr*, int)>("sendmsg");
  engram::BeforeSend(fd);
  const ssize_t sent = next(fd, message, flags);
  if (sent > 0) engram::LookAtSent(fd, static_cast<size_t>(sent));
  return sent;
}

int SSL_read(SSL* ssl, void* buffer, int bytes) {
  static const auto next = engram::Next<int(SSL*, void*, int)>("SSL_read");
  const int got = next(ssl, buffer, bytes);
  if (got <= 0 || SSL_is_server(ssl) == 0) return got;
  if (engram::LookAtDecrypted(ssl, {static_cast<const char*>(buffer), static_cast<size_t>(got)})) {
    return got;
  }
  // As a peer that breaks TLS: gRPC closes the connection.
  ERR_raise(ERR_LIB_SSL, SSL_R_UNEXPECTED_MESSAGE);
  return -1;
}

int SSL_write(SSL* ssl, const void* buffer, int bytes) {
  static const auto next = engram::Next<int(SSL*, const void*, int)>("SSL_write");
  const int sent = next(ssl, buffer, bytes);
  if (sent > 0 && SSL_is_server(ssl) != 0) {
    if (auto* const connection = engram::ConnectionOf(ssl)) {
      connection->sent.fetch_add(static_cast<uint64_t>(sent), std::memory_order_relaxed);
    }
  }
  return sent;
}

}  // extern "C"
