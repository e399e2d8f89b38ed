// What an RDMA client's exchange (rdma_exchange.h) stands on: the connection that there is now
// (RdmaLink), and the way in which rows come over it (RequestWay): the owner writes them, for
// requests (rdma_write_way.h), or this side reads them (rdma_read_way.h).
//
// Both live as long as one connection: after a break there are others. They are called under the
// exchange's lock, but for RdmaLink::Sleep; nothing but Close and Sleep blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/rdma/rdma_batch.h"
#include "client/transport/rdma/rdma_send_queue.h"
#include "client/transport/rdma/rdma_tickets.h"

namespace engram {

// What was posted and what completed, counted since the connection was opened.
struct RdmaCounts {
  uint64_t sends = 0;        // requests, or reads
  uint64_t doorbells = 0;    // calls that posted them
  uint64_t completions = 0;  // taken, of whatever kind
};

class RdmaLink {
 public:
  virtual ~RdmaLink() = default;

  // From its return on nothing that the owner sends reaches memory. Takes some milliseconds.
  virtual void Close() = 0;
  // The owner's word that it is over, with the reason; OK while it is not.
  virtual absl::Status Ended() const = 0;
  // The next completion after this wakes a sleeper; look for completions once more in between.
  // False: it cannot be, do not sleep.
  virtual bool Arm() = 0;
  // Until a completion came after Arm, or so much time went by. Not under the lock.
  virtual void Sleep(absl::Duration most) = 0;
  virtual RdmaCounts Counts() const = 0;
  // For tests: to error, as a fault would.
  virtual void BreakForTest() = 0;
};

class RequestWay {
 public:
  virtual ~RequestWay() = default;

  // INVALID_ARGUMENT: rows that this owner does not hold. UNIMPLEMENTED: what it did not offer.
  virtual absl::Status Check(const RdmaBatch& /*batch*/) const { return absl::OkStatus(); }
  // As much of the queue, whose batches were checked, as there is room for. An error: the
  // connection is of no more use.
  virtual absl::Status Send(RdmaSendQueue& queue, RdmaTickets& tickets) = 0;
  // Takes what has completed, a few at a time, and tells tickets what that says. False: there was
  // nothing. An error: the connection is of no more use.
  virtual absl::StatusOr<bool> TakeCompletions(RdmaTickets& tickets) = 0;
  // Nothing is under way any more: after Close. Appends the batches of what was, some several
  // times.
  virtual void ForgetAll(std::vector<RdmaBatch*>* batches) = 0;
};

// A connection that was opened.
struct RdmaOpened {
  std::shared_ptr<RdmaLink> link;
  std::unique_ptr<RequestWay> way;
};

}  // namespace engram
