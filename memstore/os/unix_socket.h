// One message at a time over a SOCK_SEQPACKET Unix socket, with descriptors.
//
// Stateless; the sockets are the caller's. Nothing blocks on a non-blocking socket.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/os/posix_file.h"

struct sockaddr_un;

namespace engram {

// False when the path does not fit.
bool MakeUnixAddress(const std::string& path, sockaddr_un* address);

// The whole message or an error (UNAVAILABLE: the peer is gone).
absl::Status SendMessage(const FileDescriptor& socket, absl::Span<const std::byte> message,
                         absl::Span<const int> descriptors);

struct SocketMessage {
  size_t bytes = 0;
  std::vector<FileDescriptor> descriptors;
};
// UNAVAILABLE: the peer is gone. INVALID_ARGUMENT: the message or its descriptors were longer than
// what is taken. ABORTED: nothing is there (a socket that does not block).
absl::StatusOr<SocketMessage> ReceiveMessage(const FileDescriptor& socket,
                                             absl::Span<std::byte> message, size_t max_descriptors);

}  // namespace engram
