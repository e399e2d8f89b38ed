// Rows of an engramd on the same machine through a ring (memstore/shm/ring.h), where its tables are
// not mapped.
//
// There is no thread of the client's: whoever submits, polls or waits moves all batches along -
// takes completed rows to where they land, and fills further slots - under the transport's lock.
// Only this side writes to landing buffers, under that lock, so a batch that failed is written to
// no more, and Reap waits for nothing; a slot whose batch is gone is used again once the owner has
// completed it. A wait spins for a short while, then sleeps on a futex. Contract: transport.h.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/transport/shm/fork_mark.h"
#include "client/transport/shm/shm_attach.h"
#include "client/transport/ticketed_transport.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"
#include "memstore/os/adaptive_spin.h"
#include "memstore/shm/ring.h"

namespace engram {

// A token's rows come within this time when the owner is awake.
inline constexpr absl::Duration kRingSpin = absl::Microseconds(50);

class ShmRingTransport final : public TicketedTransport {
 public:
  // The attachment's memory is the ring's region. A test may leave the socket closed.
  ShmRingTransport(ForkMark mark, ShmAttachment attachment, Clock& clock = RealClock());
  ~ShmRingTransport() override;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return attachment_.attached; }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }
  uint64_t AnswersTaken() const override { return slots_taken_; }
  absl::Status WaitSuperseded(std::stop_token stop) override {
    return attachment_.WaitSuperseded(stop, clock());
  }

 private:
  // One layer of a batch: `rows` ids from `first_id` on.
  struct LayerProgress {
    uint32_t layer = 0;
    uint32_t row_bytes = 0;
    size_t first_id = 0;
    size_t rows = 0;
    size_t submitted = 0;
    size_t landed = 0;
    Landing landing;
  };
  struct Batch final : TicketedBatch {
    bool MayBeKept() const override;

    uint64_t number = 0;
    std::vector<LayerProgress> progress;
    std::vector<RowId> ids;
    std::vector<uint32_t> places;  // of the layers that list them
    size_t next_layer = 0;         // the first with rows that are not submitted
  };
  // What a slot was filled with; the batch is null when it was given up since.
  struct SlotAssignment {
    Batch* batch = nullptr;
    size_t layer = 0;
    size_t first = 0;
    size_t rows = 0;
  };

  absl::Status CheckUsable() const override { return mark_.Check(); }
  absl::Status Prepare(const BatchRequest& request) override;
  std::unique_ptr<TicketedBatch> NewBatch() override { return std::make_unique<Batch>(); }
  absl::Status Start(const BatchRequest& request, TicketedBatch& batch) override;
  void Advance(TicketedBatch& batch) override;
  void Drive(TicketedBatch& batch, const Awaited& awaited, MonotonicTime until) override;
  void TryCancel(TicketedBatch& batch) override;
  void Forget(TicketedBatch& batch) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void SleepOn(uint32_t seen, MonotonicTime until);
  bool OwnerIsGone() const;
  void Take(const BatchRequest& request, Batch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // To the next layer with rows to ask for; one that asks for none is skipped so, too.
  static void SkipSubmitted(Batch& batch);
  void MoveAlong() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeRows() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeSlot(uint32_t number, const SlotAssignment& assigned)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillSlots() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillSlot(Batch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Break(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void BreakAsGone() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ForkMark mark_;
  ShmAttachment attachment_;
  const RingView ring_;
  const Capabilities capabilities_;
  AdaptiveSpin spin_{kRingSpin};                 // of all who wait
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);  // why the ring serves no more
  // Slots filled and taken; this side's own counts, whatever the region says.
  uint32_t submitted_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
  std::atomic<uint64_t> slots_taken_{0};
  uint64_t batches_ ABSL_GUARDED_BY(mutex_) = 0;
  MonotonicTime next_look_ ABSL_GUARDED_BY(mutex_);  // of Advance's at the owner's socket
  std::array<SlotAssignment, kRingSlots> assigned_ ABSL_GUARDED_BY(mutex_);
  std::vector<Batch*> queue_ ABSL_GUARDED_BY(mutex_);  // with rows to ask for, oldest first
};

}  // namespace engram
