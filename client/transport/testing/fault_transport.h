// A transport over another one, whose every batch has the fate that a test gives it: late, failed,
// landing layer by layer, or completing after its deadline into buffers that are still lent.
//
// Batches are carried out by a thread of its own, each at its time, so it lands asynchronously
// whatever it stands on. Contract: client/transport/transport.h.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "client/transport/ticket_table.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"

namespace engram::testing {

struct Fate {
  absl::Duration delay = absl::ZeroDuration();        // before the first layer lands
  absl::Duration layer_delay = absl::ZeroDuration();  // and between one and the next
  absl::Status submit = {};                           // what Submit returns, unless OK
  absl::Status error = {};   // after the delay, in the place of the layer below
  bool deaf = false;         // Wait does not look at the deadline: what a transport must not do
  size_t failing_layer = 0;  // index; layers before it land
};

class FaultTransport : public Transport {
 public:
  // `fate`: of each batch, by its number from 0; called by the thread that submits.
  FaultTransport(std::unique_ptr<Transport> over, std::function<Fate(uint64_t)> fate);
  ~FaultTransport() override;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return over_->table_set(); }
  absl::Status Register(absl::Span<std::byte> buffer) override { return over_->Register(buffer); }
  absl::Status Unregister(absl::Span<std::byte> buffer) override {
    return over_->Unregister(buffer);
  }
  absl::StatusOr<Ticket> Submit(const BatchRequest& batch) override;
  TicketState Poll(Ticket ticket) override;
  absl::Status Wait(Ticket ticket) override;
  absl::Status WaitLayer(Ticket ticket, size_t index) override;
  void Cancel(Ticket ticket) override;
  void Reap(Ticket ticket) override;

  // Batches whose rows were written after they had failed: late completions that tests brought
  // about.
  uint64_t late_batches() const;
  // The layers' numbers in the order in which they were carried out, over all batches.
  std::vector<uint32_t> order() const;

 private:
  struct Batch {
    std::vector<LayerRequest> layers;
    std::vector<std::vector<RowId>> ids;
    MonotonicTime deadline;
    MonotonicTime due;
    Fate fate;
    size_t carried_out = 0;  // layers
    size_t landed = 0;       // of them, before the batch failed
    bool working = false;    // rows are being written
    bool reaped = false;
    bool counted_late = false;
    TicketState state = TicketState::kInFlight;
    absl::Status status;
  };

  void Run();
  // Carries out the next piece of a batch, with the lock given up meanwhile.
  void Advance(Batch& batch, std::unique_lock<std::mutex>& lock);
  absl::Status WaitUntil(Ticket ticket, size_t layers);

  const std::unique_ptr<Transport> over_;
  const std::function<Fate(uint64_t)> fate_;
  const Capabilities capabilities_;
  TicketTable<Batch> tickets_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<std::shared_ptr<Batch>> pending_;
  uint64_t submitted_ = 0;
  uint64_t late_batches_ = 0;
  std::vector<uint32_t> order_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace engram::testing
