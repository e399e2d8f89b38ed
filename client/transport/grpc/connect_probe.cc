#include "client/transport/grpc/connect_probe.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "memstore/base/clock.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

// What is asked, and what only HTTP/1 answers it with: gRPC's server sends frames, of which none
// begins so.
constexpr absl::string_view kAsked = "GET / HTTP/1.0\r\n\r\n";
constexpr absl::string_view kAnswered = "HTTP/1.";

struct Place {
  sockaddr_storage address{};
  socklen_t bytes = 0;  // 0: it is none that can be told without a resolver
};

template <typename Address>
Place PlaceOf(const Address& address, socklen_t bytes) {
  Place place;
  std::memcpy(&place.address, &address, bytes);
  place.bytes = bytes;
  return place;
}

Place PlaceOf(absl::string_view address) {
  if (absl::ConsumePrefix(&address, "unix:")) {
    sockaddr_un socket{};
    if (address.size() >= sizeof(socket.sun_path)) return {};
    socket.sun_family = AF_UNIX;
    std::memcpy(socket.sun_path, address.data(), address.size());
    return PlaceOf(socket, sizeof(socket));
  }
  const size_t colon = address.rfind(':');
  if (colon == absl::string_view::npos) return {};
  absl::string_view host = address.substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) host = absl::StripSuffix(host, "]");
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const std::string port(address.substr(colon + 1));
  if (getaddrinfo(std::string(host).c_str(), port.c_str(), &hints, &found) != 0) return {};
  Place place;
  std::memcpy(&place.address, found->ai_addr, found->ai_addrlen);
  place.bytes = found->ai_addrlen;
  freeaddrinfo(found);
  return place;
}

// Whether the socket is ready for `events` before `end`.
bool Await(int socket, int16_t events, MonotonicTime end) {
  pollfd wait{socket, events, 0};
  const int64_t left_ms =
      std::clamp<int64_t>(absl::ToInt64Milliseconds(end - RealClock().Now()), 1, 1 << 30);
  return poll(&wait, 1, static_cast<int>(left_ms)) == 1;
}

// 0: `*socket` is connected. ETIMEDOUT: no answer before `end`.
int Connect(const Place& place, MonotonicTime end, FileDescriptor* socket) {
  *socket = FileDescriptor(
      ::socket(place.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket->is_open()) return errno;
  const auto* const address = reinterpret_cast<const sockaddr*>(&place.address);
  if (connect(socket->get(), address, place.bytes) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  if (!Await(socket->get(), POLLOUT, end)) return ETIMEDOUT;
  int error = 0;
  socklen_t length = sizeof(error);
  return getsockopt(socket->get(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

// Whether what comes before `end` begins as an answer of HTTP/1 does.
bool IsAnswered(int socket, MonotonicTime end) {
  char bytes[kAnswered.size()];
  size_t read = 0;
  while (read < sizeof(bytes) && RealClock().Now() < end && Await(socket, POLLIN, end)) {
    const ssize_t more = recv(socket, bytes + read, sizeof(bytes) - read, 0);
    if (more <= 0) return false;
    read += static_cast<size_t>(more);
  }
  return absl::string_view(bytes, read) == kAnswered;
}

}  // namespace

std::string WhyNoConnection(const std::string& address, absl::Duration most) {
  const Place place = PlaceOf(address);
  if (place.bytes == 0) return "";
  FileDescriptor socket;
  const int error = Connect(place, RealClock().Now() + most, &socket);
  return error == 0 ? "" : strerrordesc_np(error);
}

absl::Status CheckNoOtherServer(const std::string& address, absl::string_view flag,
                                absl::Duration most) {
  const MonotonicTime end = RealClock().Now() + most;
  absl::string_view port = address;
  // gRPC knows this one without a resolver, too.
  const Place place = PlaceOf(
      absl::ConsumePrefix(&port, "localhost:") ? absl::StrCat("127.0.0.1:", port) : address);
  FileDescriptor socket;
  const int error = place.bytes == 0 ? EINVAL : Connect(place, end, &socket);
  // The kernel connects no socket with one of another type, and gRPC tries again and again.
  if (error == EPROTOTYPE) {
    return absl::InvalidArgumentError(
        absl::StrCat(address, " is another kind of socket than gRPC's: is it the one of engramd ",
                     "--shm-socket (its target is shm:PATH)? Give the address of ", flag));
  }
  if (error != 0) return absl::OkStatus();
  // So short that the kernel takes it at once.
  const ssize_t sent = send(socket.get(), kAsked.data(), kAsked.size(), MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(kAsked.size()) || !IsAnswered(socket.get(), end)) {
    return absl::OkStatus();
  }
  return absl::UnimplementedError(
      absl::StrCat("what answers at ", address,
                   " speaks HTTP/1, not gRPC: is it engramd's port for monitoring "
                   "(--admin-listen)? Give the address of ",
                   flag));
}

}  // namespace engram
