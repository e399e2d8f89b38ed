#include "memstore/os/unix_socket.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

absl::Status SocketError(absl::string_view doing) {
  const int error = errno;
  if (error == EAGAIN || error == EWOULDBLOCK) return absl::AbortedError("nothing is there");
  if (error == EPIPE || error == ECONNRESET || error == ENOTCONN) {
    return absl::UnavailableError("the other side has closed its socket");
  }
  return absl::ErrnoToStatus(error, absl::StrCat("cannot ", doing, " a Unix socket"));
}

}  // namespace

bool MakeUnixAddress(const std::string& path, sockaddr_un* address) {
  *address = {};
  address->sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address->sun_path)) return false;
  std::memcpy(address->sun_path, path.data(), path.size());
  return true;
}

absl::Status SendMessage(const FileDescriptor& socket, absl::Span<const std::byte> message,
                         absl::Span<const int> descriptors) {
  iovec part{const_cast<std::byte*>(message.data()), message.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  const size_t bytes = descriptors.size() * sizeof(int);
  std::vector<char> control(CMSG_SPACE(bytes));
  if (!descriptors.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(rights), descriptors.data(), bytes);
  }
  ssize_t sent = 0;
  do {
    sent = sendmsg(socket.get(), &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return SocketError("write to");
  return absl::OkStatus();  // a packet goes whole or not at all
}

absl::StatusOr<SocketMessage> ReceiveMessage(const FileDescriptor& socket,
                                             absl::Span<std::byte> message,
                                             size_t max_descriptors) {
  iovec part{message.data(), message.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  std::vector<char> control(CMSG_SPACE(max_descriptors * sizeof(int)));
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  // A peer that closed without reading all that it was sent shows as a reset, once, before what it
  // had sent itself (why it closed).
  bool reset = false;
  ssize_t got = recvmsg(socket.get(), &header, MSG_CMSG_CLOEXEC);
  while (got < 0 && (errno == EINTR || (errno == ECONNRESET && !reset))) {
    reset = reset || errno == ECONNRESET;
    got = recvmsg(socket.get(), &header, MSG_CMSG_CLOEXEC);
  }
  if (got < 0) return SocketError("read from");

  SocketMessage received;
  received.bytes = static_cast<size_t>(got);
  // Taken before anything is checked, so that whatever came is closed again.
  for (cmsghdr* at = CMSG_FIRSTHDR(&header); at != nullptr; at = CMSG_NXTHDR(&header, at)) {
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(at) + i * sizeof(int), sizeof(int));
      received.descriptors.emplace_back(fd);
    }
  }
  if (got == 0) return absl::UnavailableError("the other side has closed its socket");
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
      received.descriptors.size() > max_descriptors) {
    return absl::InvalidArgumentError("a message is longer than this version of engram's are");
  }
  return received;
}

}  // namespace engram
