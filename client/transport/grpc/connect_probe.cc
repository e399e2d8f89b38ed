#include "client/transport/grpc/connect_probe.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

// 0: connected. ETIMEDOUT: no answer within `most`.
int Connect(const sockaddr* address, socklen_t bytes, absl::Duration most) {
  const FileDescriptor socket(
      ::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.is_open()) return errno;
  if (connect(socket.get(), address, bytes) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd wait{socket.get(), POLLOUT, 0};
  const int64_t most_ms = std::clamp<int64_t>(absl::ToInt64Milliseconds(most), 1, 1 << 30);
  if (poll(&wait, 1, static_cast<int>(most_ms)) != 1) return ETIMEDOUT;
  int error = 0;
  socklen_t length = sizeof(error);
  return getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

int ConnectToSocket(absl::string_view path, absl::Duration most) {
  sockaddr_un address{};
  if (path.size() >= sizeof(address.sun_path)) return ENAMETOOLONG;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return Connect(reinterpret_cast<const sockaddr*>(&address), sizeof(address), most);
}

}  // namespace

std::string WhyNoConnection(const std::string& address, absl::Duration most) {
  absl::string_view rest = address;
  int error = 0;
  if (absl::ConsumePrefix(&rest, "unix:")) {
    error = ConnectToSocket(rest, most);
  } else {
    const size_t colon = rest.rfind(':');
    if (colon == absl::string_view::npos) return "";
    absl::string_view host = rest.substr(0, colon);
    if (absl::ConsumePrefix(&host, "[")) host = absl::StripSuffix(host, "]");
    addrinfo hints{};
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const std::string port(rest.substr(colon + 1));
    if (getaddrinfo(std::string(host).c_str(), port.c_str(), &hints, &found) != 0) return "";
    error = Connect(found->ai_addr, found->ai_addrlen, most);
    freeaddrinfo(found);
  }
  return error == 0 ? "" : strerrordesc_np(error);
}

}  // namespace engram
