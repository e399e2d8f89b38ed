// The best way to an engramd that there is: auto:HOST:PORT (or unix:PATH), its gRPC address.
//
// Shared memory where the owner offers it and is on this machine, else RDMA, else gRPC; Describe
// says which was taken and why not a better one. Registered buffers and row ids of batches under
// way are remembered: a batch that fails with UNAVAILABLE on the first way (a queue pair that
// broke, an owner that closed its socket) is reaped there and asked for again over gRPC, within its
// deadline, and so are all that follow; it lands as if nothing had happened. Contract: transport.h.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/security_options.h"
#include "client/transport/ticket_table.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"

namespace engram {

struct AutoOptions {
  absl::Duration timeout = absl::Seconds(30);  // to attach
  std::string device = {};                     // RdmaOptions'
  absl::Duration spin = absl::ZeroDuration();  // GrpcOptions' and RdmaOptions'
  SecurityOptions security = {};
};

class AutoTransport final : public Transport {
 public:
  // GrpcTransport::Attach has the errors: that way has to be there in any case.
  static absl::StatusOr<std::unique_ptr<Transport>> Attach(const std::string& address,
                                                           const std::string& table_set,
                                                           const AutoOptions& options);
  // Over ways that a test made; `first` is null where there is none but `fallback`.
  AutoTransport(std::unique_ptr<Transport> first, std::unique_ptr<Transport> fallback,
                std::string why);
  ~AutoTransport() override;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return fallback_->table_set(); }
  std::string Describe() const override;
  absl::Status Register(absl::Span<std::byte> buffer) override;
  absl::Status Unregister(absl::Span<std::byte> buffer) override;
  absl::Status WaitSuperseded(std::stop_token stop) override {
    return fallback_->WaitSuperseded(std::move(stop));
  }
  absl::StatusOr<Ticket> Submit(const BatchRequest& batch) override;
  TicketState Poll(Ticket ticket) override;
  absl::Status Wait(Ticket ticket) override;
  absl::Status WaitLayer(Ticket ticket, size_t index) override;
  void Cancel(Ticket ticket) override;
  void Reap(Ticket ticket) override;

 private:
  // A batch, to be asked for again; the lock is held while it changes over.
  struct Open {
    std::mutex mutex;
    Transport* way = nullptr;
    Ticket ticket;  // of the way
    bool cancelled = false;
    absl::Status failed;  // it could not change over
    MonotonicTime deadline;
    std::vector<LayerRequest> layers;
    std::vector<std::vector<RowId>> ids;
  };

  void Remember(const BatchRequest& batch, Open* open) const;
  // Whether the batch was asked for again, so that its new ticket is to be looked at.
  bool ChangeOver(Open& open, const absl::Status& status);
  void Leave(const absl::Status& status);
  absl::Status WaitFor(Ticket ticket, size_t index);
  std::shared_ptr<Open> Spare();

  const std::unique_ptr<Transport> first_;
  const std::unique_ptr<Transport> fallback_;
  const Capabilities capabilities_;
  std::atomic<bool> left_{false};  // the first way
  mutable std::mutex mutex_;
  std::string why_;                           // guarded by mutex_
  std::vector<std::shared_ptr<Open>> spare_;  // guarded by mutex_
  TicketTable<Open> tickets_;
};

}  // namespace engram
