// Who is at the other end of a Unix socket. Stateless, thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace engram {

// As the kernel knew it when it connected; ErrnoToStatus where it does not know.
absl::StatusOr<uid_t> PeerUid(int socket);

// OK for engramd's own user and those of `allowed`. PERMISSION_DENIED names the user, what it may
// not do ("connect to this engramd") and the flag that would let it ("--unix-allow-uid").
absl::Status CheckPeerUid(int socket, absl::Span<const uint32_t> allowed, absl::string_view what,
                          absl::string_view flag);

}  // namespace engram
