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
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/rdma/verbs.h"

namespace engram {

// Whether a batch was refused for this alone: another transport may take it as it is.
bool IsUnregistered(const absl::Status& status);

class RdmaWindows {
 public:
  // `clock` outlives it.
  RdmaWindows(std::shared_ptr<RdmaDomain> domain, bool reads, Clock& clock)
      : domain_(std::move(domain)), reads_(reads), clock_(clock) {}

  // Declares all to the owner at the other end, and from then on what is registered and forgotten.
  // An error: the connection is of no use. UNAVAILABLE: the deadline came first.
  absl::Status MoveTo(const std::shared_ptr<RdmaConnection>& connection, MonotonicTime deadline);

  // INVALID_ARGUMENT: no bytes. RdmaRegion::Register has the others.
  absl::Status Register(absl::Span<std::byte> buffer);
  // The same of device memory (RdmaRegion::RegisterDmabuf).
  absl::Status RegisterDmabuf(int fd, uint64_t offset, absl::Span<std::byte> buffer);
  // INVALID_ARGUMENT: it was not registered.
  absl::Status Unregister(absl::Span<std::byte> buffer);
  // INVALID_ARGUMENT: these bytes lie in no registered buffer (IsUnregistered).
  absl::StatusOr<RdmaLandingPlace> Find(const std::byte* data, uint64_t bytes) const;

 private:
  // One change at a time, over its round trip: while one is made nobody else changes windows_,
  // next_number_ or connection_. No mutex, for a wait for one ends by a deadline.
  class Change {
   public:
    explicit Change(RdmaWindows& windows, MonotonicTime deadline = MonotonicTime::Infinite());
    ~Change();
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;
    bool begun() const { return begun_; }  // false: the deadline came first

   private:
    RdmaWindows& windows_;
    bool begun_ = false;
  };
  struct Window {
    uint32_t number = 0;
    RdmaRegion region;
  };
  int Access() const { return IBV_ACCESS_LOCAL_WRITE | (reads_ ? 0 : IBV_ACCESS_REMOTE_WRITE); }
  absl::Status Add(RdmaRegion region);  // within a Change

  const std::shared_ptr<RdmaDomain> domain_;
  const bool reads_;
  Clock& clock_;
  uint32_t next_number_ = 1;                  // of a Change
  std::weak_ptr<RdmaConnection> connection_;  // of a Change
  mutable Mutex mutex_;
  CondVar changed_;  // a Change is over
  bool changing_ ABSL_GUARDED_BY(mutex_) = false;
  // Only a Change changes it: within one it stays as it is, mutex_ or not.
  std::vector<Window> windows_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
