#include "server/listen_address.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace engram {
namespace {

// A socket that is closed when it goes.
class Socket {
 public:
  explicit Socket(int family) : fd_(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

absl::Status CannotListen(const ListenAddress& address, absl::string_view why) {
  return absl::UnavailableError(absl::StrCat("cannot listen on ", address.Text(), ": ", why));
}

absl::Status InUse(const ListenAddress& address) {
  return absl::AlreadyExistsError(
      absl::StrCat("cannot listen on ", address.Text(),
                   ": it is in use by another process; stop that one or choose another --listen"));
}

// Address families that are not there (IPv6 switched off) are passed over, as gRPC does.
absl::Status CheckTcp(const ListenAddress& address) {
  std::string host = address.host;
  if (host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), address.port.c_str(), &hints, &found);
      error != 0) {
    return CannotListen(address, gai_strerror(error));
  }
  absl::Status status = CannotListen(address, "no usable address");
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    const Socket socket(at->ai_family);
    if (socket.fd() < 0) continue;
    // As gRPC: connections of the past do not keep the address.
    const int on = 1;
    setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(socket.fd(), at->ai_addr, at->ai_addrlen) == 0 && listen(socket.fd(), 1) == 0) {
      status = absl::OkStatus();
      continue;
    }
    const int error = errno;
    status = error == EADDRINUSE ? InUse(address) : CannotListen(address, strerrordesc_np(error));
    break;
  }
  freeaddrinfo(found);
  return status;
}

absl::Status CheckUnix(const ListenAddress& address) {
  const std::string& path = address.unix_path;
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "."
                                : slash == 0               ? "/"
                                                           : path.substr(0, slash);
  if (access(directory.c_str(), W_OK | X_OK) != 0) {
    return CannotListen(address,
                        absl::StrCat("directory ", directory, ": ", strerrordesc_np(errno)));
  }
  struct stat there;
  if (lstat(path.c_str(), &there) != 0) {
    return errno == ENOENT ? absl::OkStatus() : CannotListen(address, strerrordesc_np(errno));
  }
  if (!S_ISSOCK(there.st_mode)) {
    return CannotListen(address, "a file that is no socket is there; move it or choose another");
  }
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.data(), path.size());  // its length was checked when parsed
  const Socket socket(AF_UNIX);
  if (connect(socket.fd(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) == 0) {
    return InUse(address);
  }
  if (errno == EPROTOTYPE) return InUse(address);  // by somebody with another type of socket
  // Refused: nobody listens, the file is what a killed engramd left.
  if (errno != ECONNREFUSED) return CannotListen(address, strerrordesc_np(errno));
  if (unlink(path.c_str()) != 0) return CannotListen(address, strerrordesc_np(errno));
  return absl::OkStatus();
}

}  // namespace

std::string ListenAddress::Text() const {
  return is_unix() ? absl::StrCat("unix:", unix_path) : absl::StrCat(host, ":", port);
}

absl::StatusOr<ListenAddress> ParseListenAddress(absl::string_view text) {
  const auto invalid = [&](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot listen on \"", text, "\": ", what, "; write HOST:PORT or unix:PATH"));
  };
  absl::string_view path = text;
  if (absl::ConsumePrefix(&path, "unix:")) {
    if (path.empty()) return invalid("it has no path");
    if (path.size() >= sizeof(sockaddr_un::sun_path)) {
      return invalid(absl::StrCat("the path of a Unix socket has at most ",
                                  sizeof(sockaddr_un::sun_path) - 1, " bytes"));
    }
    return ListenAddress{.host = {}, .port = {}, .unix_path = std::string(path)};
  }
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return invalid("it has no port");
  const absl::string_view host = text.substr(0, colon);
  const absl::string_view port = text.substr(colon + 1);
  uint32_t number = 0;
  if (!absl::SimpleAtoi(port, &number) || number > 65535) return invalid("no such port");
  if (host.empty()) return invalid("it has no host (0.0.0.0 or [::] is any)");
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (!bracketed && host.find_first_of(":[]") != absl::string_view::npos) {
    return invalid("an IPv6 address stands in brackets");
  }
  return ListenAddress{.host = std::string(host), .port = std::string(port), .unix_path = {}};
}

absl::Status CheckCanListen(const ListenAddress& address) {
  return address.is_unix() ? CheckUnix(address) : CheckTcp(address);
}

}  // namespace engram
