// Attaching to engramd's shared-memory socket: the handshake, and the checks of everything that
// comes with it before any of it is used.
//
// Stateless and thread-safe; blocks for at most the time it is given (and no less than one try),
// then for as long as mapping and measuring the tables take (mapped_gather.h).
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"
#include "memstore/os/memfd.h"
#include "memstore/shm/protocol.h"
#include "memstore/store/control_page.h"
#include "memstore/store/table_set.h"

namespace engram {

struct ShmAttachment {
  FileDescriptor socket;  // the lease: what was lent is the client's while it is open
  AttachedTableSet attached;
  ControlView control;
  std::vector<Mapping> memory;      // the tables in the manifest's order, or the ring's region
  std::vector<LoadedLayer> layers;  // the tables; empty for a ring
  uint64_t max_batch_rows = 0;
  std::string owner_version = {};  // empty: it said none

  // Transport::WaitSuperseded's contract; looks at the control page.
  absl::Status WaitSuperseded(const std::stop_token& stop, Clock& clock) const;
};

// UNAVAILABLE: nobody listened all the time. PERMISSION_DENIED: the owner does not know this user.
// UNIMPLEMENTED: the owner cannot have this set mapped (ask for a ring). DATA_LOSS: what came is
// not what the id says, or no answer of this version's. FAILED_PRECONDITION: no such set, or
// several and none was named. INVALID_ARGUMENT: the path is another kind of socket, or none.
absl::StatusOr<ShmAttachment> AttachShm(const std::string& path, const std::string& table_set,
                                        ShmMode mode, absl::Duration timeout,
                                        Clock& clock = RealClock());

}  // namespace engram
