// Rows of an engramd on the same machine, through shared memory: shm:SOCKET.
//
// Mapped: the tables' own pages, read-only; Submit gathers in the caller's thread, and the ticket
// it returns has LANDED: an embedded store without a copy of its own. A warm lookup makes no system
// call, takes no page fault and allocates nothing. The set's control page is read before and after
// each gather: fenced is DATA_LOSS, retired FAILED_PRECONDITION from the next batch on, an owner
// that has stopped UNAVAILABLE. An owner that was killed cannot say so: the rows are still those of
// the set, and lookups go on; attach again to change over. Ring: shm_ring.h.
//
// After a fork the child's every call fails with FAILED_PRECONDITION: attach anew there. The lease
// ends when the last process that holds the socket has closed it. Contract: transport.h.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/transport/shm/fork_mark.h"
#include "client/transport/shm/shm_attach.h"
#include "client/transport/ticketed_transport.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"

namespace engram {

class ShmTransport final : public TicketedTransport {
 public:
  // `mode`: "" maps the tables, or takes a ring when the owner cannot have them mapped; "ring"
  // takes a ring. AttachShm has the errors; INVALID_ARGUMENT for another mode.
  static absl::StatusOr<std::unique_ptr<Transport>> Attach(const std::string& socket_path,
                                                           const std::string& table_set,
                                                           absl::Duration timeout,
                                                           absl::string_view mode,
                                                           Clock& clock = RealClock());
  ~ShmTransport() override;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return attachment_.attached; }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }
  const GatherTable* MappedTable(size_t index) const override {
    return attachment_.attached.held.empty() ? &attachment_.layers[index].table : nullptr;
  }
  absl::Status MayReadMapped() const override;
  absl::Status MayUseMapped() const override;
  absl::Status WaitSuperseded(std::stop_token stop) override {
    return attachment_.WaitSuperseded(stop, clock());
  }

 private:
  ShmTransport(ForkMark mark, ShmAttachment attachment, Clock& clock);
  absl::Status CheckUsable() const override { return mark_.Check(); }
  absl::Status Prepare(const BatchRequest& batch) override;

  const ForkMark mark_;
  ShmAttachment attachment_;
  const Capabilities capabilities_;
};

}  // namespace engram
