// Rows of an engramd over RDMA: rdma:HOST:PORT. Contract: transport.h.
//
// Landing buffers are registered (Register) before a batch names them; each is a memory region that
// only this client's owner has the key of, and none where this side reads. Tickets and what happens
// when a connection breaks: rdma_exchange.h; the ways in which rows come: request_way.h.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/grpc/grpc_attachment.h"
#include "client/transport/rdma/rdma_exchange.h"
#include "client/transport/rdma/rdma_lease.h"
#include "client/transport/rdma/rdma_windows.h"
#include "client/transport/security_options.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"

namespace engram {

struct RdmaOptions {
  absl::Duration timeout = absl::Seconds(30);  // to attach
  std::string device = {};                     // DEV[:PORT[:GID]]; empty: by the route
  bool reads = false;                          // the client reads rows (rdma_read_way.h)
  // Whether what a connection that broke did not bring is asked for once more, over another.
  bool resend = true;
  // For whoever has another way to the owner (client/cluster). A connection that broke is never
  // opened again: what was under way over it, and whatever is submitted later, fails at once with
  // the reason marked (failure_mark.h). And Reap does not wait for the owner: where it has not
  // answered for the batch, the connection is closed at once.
  bool asks_once = false;
  // How long a waiting thread looks for rows before it sleeps; at most kMaxWaitSpin.
  absl::Duration spin = absl::Microseconds(200);
  SecurityOptions security = {};
  Clock* clock = &RealClock();  // outlives the transport
};

class RdmaTransport final : public RdmaExchange {
 public:
  // GrpcAttachment::Create's errors, and Create's.
  static absl::StatusOr<std::unique_ptr<Transport>> Attach(const std::string& address,
                                                           const std::string& table_set,
                                                           const RdmaOptions& options);
  // Over an attachment that there is, by its clock: takes three round trips, a few seconds at most.
  // UNIMPLEMENTED: the owner has no RDMA, or not this way. NOT_FOUND: no device leads to it.
  // RESOURCE_EXHAUSTED: memory can't be pinned, or enough clients are attached. INVALID_ARGUMENT:
  // a spin that is too long. INTERNAL: the tables to be read are not what the manifest says.
  static absl::StatusOr<std::unique_ptr<Transport>> Create(
      std::shared_ptr<const GrpcAttachment> attachment, const RdmaOptions& options);
  ~RdmaTransport() override;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return route_.grpc->table_set(); }
  absl::Status Register(absl::Span<std::byte> buffer) override { return windows_.Register(buffer); }
  absl::Status Unregister(absl::Span<std::byte> buffer) override {
    return windows_.Unregister(buffer);
  }
  absl::Status RegisterDmabuf(int fd, uint64_t offset, absl::Span<std::byte> buffer) override {
    return windows_.RegisterDmabuf(fd, offset, buffer);
  }
  absl::Status WaitSuperseded(std::stop_token stop) override {
    return route_.grpc->WaitSuperseded(std::move(stop));
  }

 private:
  RdmaTransport(RdmaRoute route, uint64_t max_batch_rows, const RdmaOwnerFeatures& owner,
                const RdmaOptions& options);

  absl::Status Prepare(const BatchRequest& request) override;
  absl::Status Fill(const BatchRequest& request, RdmaBatch& batch) const override;
  absl::StatusOr<RdmaOpened> OpenAnother(MonotonicTime deadline) override;
  // A connection over the lease, which knows the windows, and its way: by the deadline. Where that
  // comes first, the lease is over as well.
  absl::StatusOr<RdmaOpened> Open(std::unique_ptr<RdmaLease> lease, MonotonicTime deadline);

  const RdmaRoute route_;
  const std::string owner_version_;  // of the first one
  const Capabilities capabilities_;
  RdmaWindows windows_;
  // OpenAnother's alone, of which one call goes at a time.
  RdmaNextLease next_lease_;
};

}  // namespace engram
