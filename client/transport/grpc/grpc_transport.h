// Rows over gRPC: TCP (HOST:PORT) or a Unix socket (unix:PATH).
//
// Batches travel on long-lived streams, or as unary calls; either way without protobuf, and rows
// are copied once, from the buffers they were received in to where they land. The thread that waits
// takes the replies itself (queue_driver.h). Row ids that repeat in a large batch travel once
// (row_deduplicator.h). Streams take token ids, too, where the owner offers token_windows.
// Contract: transport.h; the life of tickets: ticketed_transport.h. A batch's
// writer is the thread that copies rows of a reply, so an earlier attempt of a request never writes
// beside a later one.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/grpc/grpc_attachment.h"
#include "client/transport/grpc/grpc_batch.h"
#include "client/transport/grpc/grpc_calls.h"
#include "client/transport/grpc/queue_driver.h"
#include "client/transport/row_deduplicator.h"
#include "client/transport/ticketed_transport.h"
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
  Clock* clock = &RealClock();  // outlives the transport
  // What an owner has no room for, or a connection lost, fails the batch at once, with the reason
  // marked (failure_mark.h), and is not asked for again: for whoever has other owners to ask.
  bool asks_once = false;

  static constexpr uint32_t kMaxConnections = 16;
  static constexpr uint32_t kMaxStreams = 16;
};

class GrpcTransport final : public TicketedTransport, private RequestSink {
 public:
  // Attaches first: GrpcAttachment::Create has the errors. INVALID_ARGUMENT: options out of range.
  static absl::StatusOr<std::unique_ptr<Transport>> Attach(const std::string& address,
                                                           const std::string& table_set,
                                                           const GrpcOptions& options);
  // From an attachment that is there, whose time-out, security and clock are in the place of the
  // options'. `driver`: shared with other transports, which drive this one's events too; its spin
  // is in the place of the options', its clock is the attachment's. Null: one of its own.
  static absl::StatusOr<std::unique_ptr<Transport>> Create(
      std::shared_ptr<const GrpcAttachment> attachment, const GrpcOptions& options,
      std::shared_ptr<QueueDriver> driver = nullptr);
  ~GrpcTransport() override;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return attachment_->table_set(); }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status WaitSuperseded(std::stop_token stop) override {
    return attachment_->WaitSuperseded(std::move(stop));
  }

 private:
  // A request that the server had no room for, to be sent again.
  struct Retry final : rpc::QueueEvent {
    void Done(bool ok) override { transport->OnRetry(this, ok); }
    GrpcTransport* transport = nullptr;
    RequestPointer request;
  };

  GrpcTransport(std::shared_ptr<const GrpcAttachment> attachment, const GrpcOptions& options,
                std::shared_ptr<QueueDriver> driver);

  absl::Status Prepare(const BatchRequest& request) override;
  std::unique_ptr<TicketedBatch> NewBatch() override { return std::make_unique<GrpcBatch>(); }
  absl::Status Start(const BatchRequest& request, TicketedBatch& batch) override;
  void Advance(TicketedBatch& batch) override;
  void Drive(TicketedBatch& batch, const Awaited& awaited, MonotonicTime until) override;
  void TryCancel(TicketedBatch& batch) override;
  void Forget(TicketedBatch& batch) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void OnReply(const RequestPointer& request, absl::Span<const wire::Bytes> chain,
               const wire::LookupResponse& reply, bool ended) override;
  void OnGone(const RequestPointer& request, const grpc::Status& status,
              bool had_answered) override;

  void Send(const RequestPointer& request);
  void Land(const RequestPointer& request, absl::Span<const wire::Bytes> chain,
            const wire::LookupResponse& reply, bool ended);
  // Whether the request may be sent once more into the same memory.
  bool MayRestart(const RequestPointer& request);
  // Of a request that is not sent again (GrpcOptions::asks_once).
  void FailGone(const RequestPointer& request, const grpc::Status& status, bool broke);
  void FailRequest(const RequestPointer& request, absl::Status status);
  void SendLater(const RequestPointer& request, absl::Duration delay);
  void OnRetry(Retry* retry, bool ok);
  // Has tickets that are late by then ended, whoever looks: for those with a sink.
  void WatchDeadline(MonotonicTime deadline);
  void OnDeadline(bool ok);
  // For a few seconds after the server was not there: has connections tried again, and somebody
  // look at the sockets, by this clock. gRPC does both by timers that sleep by the wall clock.
  void ConnectAgain();
  void OnConnectAgain(bool ok);
  bool TryLostConnections();
  bool Ended() const;

  const std::shared_ptr<const GrpcAttachment> attachment_;
  const GrpcPeer peer_;
  const Capabilities capabilities_;
  const bool asks_once_;
  RowDeduplicator deduplicator_;
  const std::shared_ptr<QueueDriver> driver_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;  // one a connection
  std::vector<std::unique_ptr<RawStub>> stubs_;           // of each connection
  std::vector<std::unique_ptr<GrpcCalls>> lanes_;         // what requests are spread over, in turn
  std::atomic<uint32_t> next_lane_{0};
  std::atomic<int64_t> last_reply_ns_{0};
  std::vector<size_t> landed_layers_;  // of a reply; the driver's
  // Of all timers: how many have not been told. The driver's lock is taken under the mutex, never
  // the other way round.
  std::atomic<size_t> timers_pending_{0};
  Mutex timers_mutex_;
  std::vector<std::unique_ptr<Retry>> retries_ ABSL_GUARDED_BY(timers_mutex_);
  rpc::MethodEvent<GrpcTransport> deadline_event_{this, &GrpcTransport::OnDeadline};
  bool deadline_pending_ ABSL_GUARDED_BY(timers_mutex_) = false;  // its event has not been told
  MonotonicTime next_deadline_ ABSL_GUARDED_BY(timers_mutex_) = MonotonicTime::Infinite();
  rpc::MethodEvent<GrpcTransport> connect_event_{this, &GrpcTransport::OnConnectAgain};
  bool connect_pending_ ABSL_GUARDED_BY(timers_mutex_) = false;  // its event has not been told
  MonotonicTime connect_until_ ABSL_GUARDED_BY(timers_mutex_);
  bool ending_ ABSL_GUARDED_BY(timers_mutex_) = false;
};

}  // namespace engram
