// Rows over gRPC: TCP (HOST:PORT) or a Unix socket (unix:PATH).
//
// One channel and one thread ("engram-grpc") that takes replies from the completion queue and
// copies rows to where they land. Batches larger than a unary reply are cut into several calls.
// Contract: transport.h.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/grpc_batch.h"
#include "client/transport/ticket_table.h"
#include "client/transport/transport.h"

namespace engram {

class GrpcTransport : public Transport {
 public:
  // Waits up to `timeout` while nobody listens or the server is loading; UNAVAILABLE after that.
  // The manifest is checked against the id and the token map against the manifest: DATA_LOSS.
  // FAILED_PRECONDITION: the server has no such set, or several and none was named.
  static absl::StatusOr<std::unique_ptr<Transport>> Attach(const std::string& address,
                                                           const std::string& table_set,
                                                           absl::Duration timeout);
  ~GrpcTransport() override;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return attached_; }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::StatusOr<Ticket> Submit(const BatchRequest& batch) override;
  TicketState Poll(Ticket ticket) override;
  absl::Status Wait(Ticket ticket) override;
  absl::Status WaitLayer(Ticket ticket, size_t) override { return Wait(ticket); }
  void Cancel(Ticket ticket) override;
  void Reap(Ticket ticket) override;

 private:
  GrpcTransport(std::unique_ptr<v1::Lookup::Stub> stub, std::string address,
                AttachedTableSet attached, const v1::Limits& limits);
  void TakeReplies();

  const AttachedTableSet attached_;
  const std::unique_ptr<v1::Lookup::Stub> stub_;
  const Capabilities capabilities_;
  grpc::CompletionQueue queue_;
  GrpcChannel channel_;
  TicketTable<GrpcBatch> tickets_;
  std::thread replies_;
};

}  // namespace engram
