// The landing buffers that a client has registered: each is a memory region of its own domain and,
// where the owner writes, a window that it declared.
//
// Thread-safe; finding one is a short lock and a look through a short list.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "client/transport/rdma/rdma_lease.h"
#include "memstore/rdma/verbs.h"

namespace engram {

struct RdmaLandingPlace {
  uint32_t window = 0;
  uint64_t offset = 0;
  uint32_t local_key = 0;
};

// Whether a batch was refused for this alone: another transport may take it as it is.
bool IsUnregistered(const absl::Status& status);

class RdmaWindows {
 public:
  RdmaWindows(std::shared_ptr<RdmaDomain> domain, bool reads)
      : domain_(std::move(domain)), reads_(reads) {}

  // `lease` is null while there is no connection; INVALID_ARGUMENT: no bytes.
  absl::Status Register(absl::Span<std::byte> buffer, RdmaLease* lease);
  // The same of device memory (RdmaRegion::RegisterDmabuf).
  absl::Status RegisterDmabuf(int fd, uint64_t offset, absl::Span<std::byte> buffer,
                              RdmaLease* lease);
  // INVALID_ARGUMENT: it was not registered.
  absl::Status Unregister(absl::Span<std::byte> buffer, RdmaLease* lease);
  // Declares all to the owner of a new connection.
  absl::Status DeclareAll(RdmaLease& lease);
  // INVALID_ARGUMENT: these bytes lie in no registered buffer (IsUnregistered).
  absl::StatusOr<RdmaLandingPlace> Find(const std::byte* data, uint64_t bytes) const;

 private:
  struct Window {
    uint32_t number = 0;
    RdmaRegion region;
  };
  int Access() const { return IBV_ACCESS_LOCAL_WRITE | (reads_ ? 0 : IBV_ACCESS_REMOTE_WRITE); }
  absl::Status Add(RdmaRegion region, RdmaLease* lease);

  const std::shared_ptr<RdmaDomain> domain_;
  const bool reads_;
  std::mutex change_mutex_;  // one change at a time, over its round trip
  uint32_t next_number_ = 1;
  mutable std::mutex mutex_;
  std::vector<Window> windows_;  // changed under both
};

}  // namespace engram
