// A transport over another one, whose every batch has the fate that a test gives it: late, failed,
// landing layer by layer, or completing after its deadline into buffers that are still lent.
//
// Batches are carried out by a thread of its own, each at its time, so it lands asynchronously
// whatever it stands on. Contract: client/transport/transport.h.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <thread>
#include <vector>

#include "client/transport/ticketed_transport.h"
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

class FaultTransport final : public TicketedTransport {
 public:
  // `fate`: of each batch, by its number from 0; called by the thread that submits.
  FaultTransport(std::unique_ptr<Transport> over, std::function<Fate(uint64_t)> fate,
                 Clock& clock = RealClock());
  ~FaultTransport() override;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return over_->table_set(); }
  absl::Status Register(absl::Span<std::byte> buffer) override { return over_->Register(buffer); }
  absl::Status Unregister(absl::Span<std::byte> buffer) override {
    return over_->Unregister(buffer);
  }

  // Batches whose rows were written after they had failed: late completions that tests brought
  // about.
  uint64_t late_batches();
  // The layers' numbers in the order in which they were carried out, over all batches.
  std::vector<uint32_t> order();

 private:
  // One writer of its buffers until all its layers were carried out, whatever became of it.
  struct Batch final : TicketedBatch {
    // The first layer from this one on that has rows; the number of layers when there is none.
    size_t NextWithRows(size_t layer) const;

    std::vector<LayerRequest> layer_requests;
    std::vector<std::vector<RowId>> ids;
    MonotonicTime due;
    Fate fate;
    size_t carried_out = 0;  // all layers before it
    bool working = false;    // rows are being written
    bool counted_late = false;
  };

  absl::Status Prepare(const BatchRequest& request) override;
  std::unique_ptr<TicketedBatch> NewBatch() override { return std::make_unique<Batch>(); }
  absl::Status Start(const BatchRequest& request, TicketedBatch& batch) override;
  void Drive(TicketedBatch& batch, const Awaited& awaited, MonotonicTime until) override;
  void StopWriters(TicketedBatch& batch) override;

  void Run();
  // The next layer of a batch, with the lock given up while rows are written.
  void CarryOut(Batch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::unique_ptr<Transport> over_;
  const std::function<Fate(uint64_t)> fate_;
  const Capabilities capabilities_;
  std::list<TicketRef<Batch>> pending_ ABSL_GUARDED_BY(mutex_);
  std::atomic<uint64_t> submitted_{0};
  uint64_t late_batches_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<uint32_t> order_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace engram::testing
