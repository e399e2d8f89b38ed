// The best way that there is to an engramd: auto:HOST:PORT (or unix:PATH), its gRPC address.
//
// auto_choice.h says which way is taken; Describe says which one was, and why not a better one.
// Registered buffers, and row ids of batches under way, are kept: a batch that fails with
// UNAVAILABLE on the first way (a queue pair that broke, an owner that closed its socket) is reaped
// there, so that nothing of it can be written any more, and what of it had not landed is asked for
// again over gRPC, within its deadline; so are all batches that follow. Contract: transport.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/security_options.h"
#include "client/transport/ticketed_transport.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"

namespace engram {

struct AutoOptions {
  absl::Duration timeout = absl::Seconds(30);  // to attach
  std::string device = {};                     // RdmaOptions'
  absl::Duration spin = absl::ZeroDuration();  // GrpcOptions' and RdmaOptions'
  SecurityOptions security = {};
  Clock* clock = &RealClock();  // outlives the transport
};

class AutoTransport final : public TicketedTransport, private CompletionSink {
 public:
  // GrpcAttachment::Create has the errors: that way has to be there in any case.
  static absl::StatusOr<std::unique_ptr<Transport>> Attach(const std::string& address,
                                                           const std::string& table_set,
                                                           const AutoOptions& options);
  // Over ways that are there; `first` is null where there is none but `fallback`.
  AutoTransport(std::unique_ptr<Transport> first, std::unique_ptr<Transport> fallback,
                std::string why, Clock& clock = RealClock());
  ~AutoTransport() override;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return fallback_->table_set(); }
  std::string Describe() const override;
  absl::Status Register(absl::Span<std::byte> buffer) override;
  absl::Status Unregister(absl::Span<std::byte> buffer) override;
  absl::Status WaitSuperseded(std::stop_token stop) override {
    return fallback_->WaitSuperseded(std::move(stop));
  }

 private:
  // A ticket of one of the ways.
  struct WayTicket {
    Transport* way = nullptr;  // null: none
    Ticket ticket;
    friend bool operator==(const WayTicket&, const WayTicket&) = default;
  };
  // One writer of its buffers from its start until its way's ticket has landed or was reaped. The
  // transport's lock guards what a thread other than the one that starts it may look at.
  struct Batch final : TicketedBatch {
    WayTicket on_way;
    bool interrupted = false;   // it is to change over, or is doing so
    absl::Status why;           // it was interrupted
    std::vector<size_t> asked;  // of the layers that its way was asked for: where each stands here
    std::vector<LayerRequest> layer_requests;  // to be asked for again
    std::vector<std::vector<RowId>> ids;
    std::vector<std::vector<uint32_t>> places;
  };

  absl::Status Prepare(const BatchRequest& request) override;
  std::unique_ptr<TicketedBatch> NewBatch() override { return std::make_unique<Batch>(); }
  absl::Status Start(const BatchRequest& request, TicketedBatch& batch) override;
  void Advance(TicketedBatch& batch) override;
  void Drive(TicketedBatch& batch, const Awaited& awaited, MonotonicTime until) override;
  void TryCancel(TicketedBatch& batch) override;
  void StopWriters(TicketedBatch& batch) override;
  void Forget(TicketedBatch& batch) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The ways', where a batch has a sink; `tag` is the batch's own ticket.
  void OnLayerLanded(uint64_t tag, size_t index) override;
  void OnTicketEnded(uint64_t tag, const absl::Status& status) override;

  static void Remember(const BatchRequest& request, Batch& batch);
  absl::Status StartOn(Transport& way, const BatchRequest& request, Batch& batch);
  // What a way's Wait said: of its layer at this index, or of all (Awaited::kTicket).
  void TakeOutcome(Batch& batch, const WayTicket& on_way, size_t index, const absl::Status& status);
  void LandOne(Batch& batch, size_t way_index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LandRest(Batch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WayFailed(Batch& batch, const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ChangeOverInterrupted();
  void ChangeOver(Batch& batch);
  void AskAgain(Batch& batch, std::vector<LayerRequest>* layers)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReapFinished();
  void Leave(const absl::Status& status);

  const std::unique_ptr<Transport> first_;
  const std::unique_ptr<Transport> fallback_;
  const Capabilities capabilities_;
  std::atomic<bool> left_{false};  // the first way
  std::string why_ ABSL_GUARDED_BY(mutex_);
  std::vector<TicketRef<Batch>> interrupted_ ABSL_GUARDED_BY(mutex_);
  // Of batches that landed and were reaped: nothing lands there any more, and they are given back
  // to their way by whoever comes next.
  std::vector<WayTicket> finished_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
