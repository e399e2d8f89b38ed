// Rows over gRPC: TCP (HOST:PORT) or a Unix socket (unix:PATH).
//
// Batches travel on long-lived streams, or as unary calls; either way without protobuf, and rows
// are copied once, from the buffers they were received in to where they land. The thread that waits
// takes the replies itself (queue_driver.h). Row ids that repeat in a large batch travel once
// (planner.h). Contract: transport.h.
#pragma once

#include <grpcpp/alarm.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/grpc/grpc_attachment.h"
#include "client/transport/grpc/grpc_batch.h"
#include "client/transport/grpc/grpc_calls.h"
#include "client/transport/grpc/queue_driver.h"
#include "client/transport/row_deduplicator.h"
#include "client/transport/ticket_table.h"
#include "client/transport/transport.h"

namespace engram {

struct GrpcOptions {
  absl::Duration timeout = absl::Seconds(30);  // to attach
  bool unary = false;                          // a call for each request instead of streams
  uint32_t connections = 1;                    // 1..kMaxConnections
  uint32_t streams = 1;                        // of each connection, 1..kMaxStreams; taken in turn
  absl::Duration spin =
      absl::ZeroDuration();  // looking for a reply before sleeping, up to kMaxWaitSpin
  SecurityOptions security = {};

  static constexpr uint32_t kMaxConnections = 16;
  static constexpr uint32_t kMaxStreams = 16;
};

class GrpcTransport : public Transport, private PartSink {
 public:
  // Attaches first: GrpcAttachment::Create has the errors. INVALID_ARGUMENT: options out of range.
  static absl::StatusOr<std::unique_ptr<Transport>> Attach(const std::string& address,
                                                           const std::string& table_set,
                                                           const GrpcOptions& options);
  // From an attachment that is there; of the options, time-out and security are not asked.
  static absl::StatusOr<std::unique_ptr<Transport>> Create(
      std::shared_ptr<const GrpcAttachment> attachment, const GrpcOptions& options);
  ~GrpcTransport() override;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return attachment_->table_set(); }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status WaitSuperseded(std::stop_token stop) override;
  absl::StatusOr<Ticket> Submit(const BatchRequest& batch) override;
  TicketState Poll(Ticket ticket) override;
  absl::Status Wait(Ticket ticket) override;
  absl::Status WaitLayer(Ticket ticket, size_t index) override;
  void Cancel(Ticket ticket) override;
  void Reap(Ticket ticket) override;

 private:
  // What is kept for a ticket.
  struct Open {
    std::shared_ptr<GrpcBatch> batch;
    std::vector<PartPointer> parts;
  };
  struct Connection;
  // A part that the server had no room for, to be sent again.
  struct Retry final : rpc::QueueEvent {
    void Done(bool ok) override { transport->OnRetry(this, ok); }
    GrpcTransport* transport = nullptr;
    PartPointer part;
    grpc::Alarm alarm;
  };

  GrpcTransport(std::shared_ptr<const GrpcAttachment> attachment, const GrpcOptions& options);
  void Send(const PartPointer& part);
  void Fail(Open& open, absl::Status status);
  void CancelParts(Open& open);
  void FailPart(const PartPointer& part, absl::Status status);
  absl::Status WaitUntil(Ticket ticket, absl::FunctionRef<bool(const GrpcBatch&)> done);
  void SendLater(const PartPointer& part, absl::Duration delay);
  void OnRetry(Retry* retry, bool ok);
  absl::Status Late() const;
  bool Ended() const;

  void OnReply(const PartPointer& part, absl::Span<const wire::Bytes> chain,
               const wire::LookupResponse& reply, bool ended) override;
  void OnGone(const PartPointer& part, const grpc::Status& status, bool had_answered) override;

  const std::shared_ptr<const GrpcAttachment> attachment_;
  const Capabilities capabilities_;
  const bool unary_;
  const GrpcPeer peer_;
  Planner planner_;
  QueueDriver driver_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::atomic<uint32_t> next_{0};
  std::atomic<int64_t> last_reply_ns_{0};
  mutable std::mutex retries_mutex_;
  std::vector<std::unique_ptr<Retry>> retries_;
  bool ending_ = false;  // guarded by retries_mutex_
  TicketTable<Open> tickets_;
};

}  // namespace engram
