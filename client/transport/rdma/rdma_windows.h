// The landing buffers that a client has registered: each is a memory region of its own domain and,
// where the owner writes, a window that it declared.
//
// Thread-safe. Registering takes a round trip to the owner of the connection there is; where there
// is none, or it is over, the next one is told of all. Finding a landing is a short lock and a look
// through a short list.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/transport/rdma/rdma_batch.h"
#include "client/transport/rdma/rdma_connection.h"
#include "memstore/base/mutex.h"
#include "memstore/rdma/verbs.h"

namespace engram {

// Whether a batch was refused for this alone: another transport may take it as it is.
bool IsUnregistered(const absl::Status& status);

class RdmaWindows {
 public:
  RdmaWindows(std::shared_ptr<RdmaDomain> domain, bool reads)
      : domain_(std::move(domain)), reads_(reads) {}

  // Declares all to the owner at the other end, and from then on what is registered and forgotten.
  // An error: the connection is of no use.
  absl::Status MoveTo(const std::shared_ptr<RdmaConnection>& connection);

  // INVALID_ARGUMENT: no bytes. RdmaRegion::Register has the others.
  absl::Status Register(absl::Span<std::byte> buffer);
  // The same of device memory (RdmaRegion::RegisterDmabuf).
  absl::Status RegisterDmabuf(int fd, uint64_t offset, absl::Span<std::byte> buffer);
  // INVALID_ARGUMENT: it was not registered.
  absl::Status Unregister(absl::Span<std::byte> buffer);
  // INVALID_ARGUMENT: these bytes lie in no registered buffer (IsUnregistered).
  absl::StatusOr<RdmaLandingPlace> Find(const std::byte* data, uint64_t bytes) const;

 private:
  struct Window {
    uint32_t number = 0;
    RdmaRegion region;
  };
  int Access() const { return IBV_ACCESS_LOCAL_WRITE | (reads_ ? 0 : IBV_ACCESS_REMOTE_WRITE); }
  absl::Status Add(RdmaRegion region) ABSL_EXCLUSIVE_LOCKS_REQUIRED(change_mutex_);

  const std::shared_ptr<RdmaDomain> domain_;
  const bool reads_;
  Mutex change_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);  // one change at a time, over its round trip
  uint32_t next_number_ ABSL_GUARDED_BY(change_mutex_) = 1;
  std::weak_ptr<RdmaConnection> connection_ ABSL_GUARDED_BY(change_mutex_);
  mutable Mutex mutex_;
  // Changed under both, so that it is read under either.
  std::vector<Window> windows_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
