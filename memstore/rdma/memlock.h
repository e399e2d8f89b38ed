// Whether this process may pin the memory that RDMA needs: RLIMIT_MEMLOCK, looked at before a
// device refuses with a bare ENOMEM.
//
// Stateless and thread-safe.
#pragma once

#include <cstdint>

#include "absl/status/status.h"

namespace engram {

// RESOURCE_EXHAUSTED with both sizes and how to raise the limit. Raises the soft limit to the hard
// one where that suffices. Who may pin without a limit (CAP_IPC_LOCK) passes.
absl::Status CheckMemlock(uint64_t bytes);
// As the first does, for a limit that is given.
absl::Status CheckMemlockLimit(uint64_t bytes, uint64_t limit_bytes);

}  // namespace engram
