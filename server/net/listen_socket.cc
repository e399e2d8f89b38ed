#include "server/net/listen_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

constexpr int kSocketFlags = SOCK_CLOEXEC | SOCK_NONBLOCK;

absl::Status CannotListen(const ListenAddress& address, absl::string_view why) {
  return absl::UnavailableError(absl::StrCat("cannot listen on ", address.Text(), ": ", why));
}

absl::Status InUse(const ListenAddress& address) {
  return absl::AlreadyExistsError(
      absl::StrCat("cannot listen on ", address.Text(),
                   ": it is in use by another process; stop that one or choose another address"));
}

absl::Status FromErrno(const ListenAddress& address) {
  const int error = errno;
  return error == EADDRINUSE ? InUse(address) : CannotListen(address, strerrordesc_np(error));
}

// What a machine answers for an address family that it has not, or that is switched off.
bool IsNoAddressHere(int error) { return error == EADDRNOTAVAIL || error == EAFNOSUPPORT; }

void SetOption(int fd, int level, int option, int value) {
  setsockopt(fd, level, option, &value, sizeof(value));
}

void SetPort(sockaddr_storage* at, in_port_t port) {
  if (at->ss_family == AF_INET) reinterpret_cast<sockaddr_in*>(at)->sin_port = port;
  if (at->ss_family == AF_INET6) reinterpret_cast<sockaddr_in6*>(at)->sin6_port = port;
}

// In network order, as bound.
in_port_t PortOf(int fd) {
  sockaddr_storage at{};
  socklen_t length = sizeof(at);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&at), &length) != 0) return 0;
  return at.ss_family == AF_INET ? reinterpret_cast<sockaddr_in*>(&at)->sin_port
                                 : reinterpret_cast<sockaddr_in6*>(&at)->sin6_port;
}

// /etc/hosts may name one address twice.
bool IsDuplicate(const addrinfo* first, const addrinfo* at) {
  for (; first != at; first = first->ai_next) {
    if (first->ai_addrlen == at->ai_addrlen &&
        std::memcmp(first->ai_addr, at->ai_addr, at->ai_addrlen) == 0) {
      return true;
    }
  }
  return false;
}

sockaddr_un UnixName(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.data(), path.size());  // its length was checked when parsed
  return name;
}

// Makes a Unix socket's path free: the file of a process that is gone is removed.
absl::Status RemoveStaleSocket(const ListenAddress& address) {
  const std::string& path = address.unix_path;
  ENGRAM_RETURN_IF_ERROR(CheckSocketFolder(address));
  struct stat there;
  if (lstat(path.c_str(), &there) != 0) {
    return errno == ENOENT ? absl::OkStatus() : FromErrno(address);
  }
  if (!S_ISSOCK(there.st_mode)) {
    return CannotListen(address, "a file that is no socket is there; move it or choose another");
  }
  const sockaddr_un name = UnixName(path);
  const int fd = socket(AF_UNIX, SOCK_STREAM | kSocketFlags, 0);
  if (fd < 0) return FromErrno(address);
  const int connected = connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name));
  const int error = connected == 0 ? 0 : errno;
  close(fd);
  // EAGAIN: somebody listens, with more connections waiting than he takes.
  // EPROTOTYPE: somebody listens with another type of socket.
  if (error == 0 || error == EAGAIN || error == EPROTOTYPE) return InUse(address);
  // Refused: nobody listens, the file is what a killed engramd left.
  if (error != ECONNREFUSED) return CannotListen(address, strerrordesc_np(error));
  return unlink(path.c_str()) == 0 || errno == ENOENT ? absl::OkStatus() : FromErrno(address);
}

}  // namespace

ListenSocket::ListenSocket(ListenSocket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), address_(std::move(other.address_)), file_(other.file_) {}

ListenSocket::~ListenSocket() {
  if (fd_ < 0) return;
  // Before it is closed: as long as it is open no other file gets its number.
  struct stat there;
  if (address_.is_unix() && lstat(address_.unix_path.c_str(), &there) == 0 &&
      there.st_dev == file_.st_dev && there.st_ino == file_.st_ino) {
    unlink(address_.unix_path.c_str());
  }
  close(fd_);
}

absl::StatusOr<std::vector<ListenSocket>> ListenSocket::Bind(const ListenAddress& address) {
  if (!address.is_unix()) return BindTcp(address);
  ENGRAM_ASSIGN_OR_RETURN(ListenSocket one, BindUnix(address, SOCK_STREAM));
  std::vector<ListenSocket> bound;
  bound.push_back(std::move(one));
  return bound;
}

absl::StatusOr<std::vector<ListenSocket>> ListenSocket::BindTcp(const ListenAddress& address) {
  std::string host = address.host;
  if (host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* resolved = nullptr;
  if (const int error = getaddrinfo(host.c_str(), address.port.c_str(), &hints, &resolved);
      error != 0) {
    return CannotListen(address, gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> found(resolved, freeaddrinfo);
  std::vector<ListenSocket> bound;
  absl::Status passed_over = CannotListen(address, "the host has no address");
  for (const addrinfo* at = found.get(); at != nullptr; at = at->ai_next) {
    if (IsDuplicate(found.get(), at)) continue;
    ListenSocket one(socket(at->ai_family, SOCK_STREAM | kSocketFlags, 0), address);
    sockaddr_storage name{};
    std::memcpy(&name, at->ai_addr, at->ai_addrlen);
    if (!bound.empty()) SetPort(&name, PortOf(bound.front().fd_));
    if (one.fd_ >= 0) {
      // Connections of the past do not keep the address.
      SetOption(one.fd_, SOL_SOCKET, SO_REUSEADDR, 1);
      // Where it has both families, each has a socket of its own; [::] alone takes both.
      if (at->ai_family == AF_INET6) SetOption(one.fd_, IPPROTO_IPV6, IPV6_V6ONLY, 0);
      // Inherited by what is accepted: a reply is not held back for more to send.
      SetOption(one.fd_, IPPROTO_TCP, TCP_NODELAY, 1);
    }
    if (one.fd_ < 0 || bind(one.fd_, reinterpret_cast<sockaddr*>(&name), at->ai_addrlen) != 0) {
      const bool not_here = IsNoAddressHere(errno);
      passed_over = FromErrno(address);
      if (not_here) continue;
      return passed_over;
    }
    one.address_.port = absl::StrCat(ntohs(PortOf(one.fd_)));
    bound.push_back(std::move(one));
  }
  if (bound.empty()) return passed_over;
  return bound;
}

absl::StatusOr<ListenSocket> ListenSocket::BindUnix(const ListenAddress& address, int type) {
  ENGRAM_RETURN_IF_ERROR(RemoveStaleSocket(address));
  const sockaddr_un name = UnixName(address.unix_path);
  ListenSocket one(socket(AF_UNIX, type | kSocketFlags, 0), address);
  if (one.fd_ < 0 || bind(one.fd_, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0 ||
      lstat(address.unix_path.c_str(), &one.file_) != 0) {
    return FromErrno(address);
  }
  // It does not listen yet, so nobody has connected on terms of the umask.
  if (chmod(address.unix_path.c_str(), kUnixSocketMode) != 0) return FromErrno(address);
  return one;
}

absl::StatusOr<ListenSocket> ListenSocket::BindPackets(const std::string& path) {
  ENGRAM_ASSIGN_OR_RETURN(const ListenAddress address,
                          ParseListenAddress(absl::StrCat("unix:", path)));
  return BindUnix(address, SOCK_SEQPACKET);
}

absl::Status ListenSocket::Listen() {
  return listen(fd_, SOMAXCONN) == 0 ? absl::OkStatus() : FromErrno(address_);
}

absl::Status CheckSocketFolder(const ListenAddress& address) {
  if (!address.is_unix()) return absl::OkStatus();
  const std::string& path = address.unix_path;
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "."
                                : slash == 0               ? "/"
                                                           : path.substr(0, slash);
  if (access(directory.c_str(), W_OK | X_OK) == 0) return absl::OkStatus();
  return CannotListen(address, absl::StrCat("directory ", directory, ": ", strerrordesc_np(errno),
                                            "; make one that engramd may write to, or choose "
                                            "another path"));
}

absl::Status CheckCanListen(const ListenAddress& address) {
  return address.is_unix() ? RemoveStaleSocket(address) : ListenSocket::Bind(address).status();
}

}  // namespace engram
