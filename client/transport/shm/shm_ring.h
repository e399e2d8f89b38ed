// Rows of an engramd on the same machine through a ring (memstore/shm/ring.h), where its tables are
// not mapped.
//
// There is no thread of the client's: whoever submits, polls or waits moves all batches along -
// takes completed pieces' rows to where they land, and submits further pieces - under one lock.
// Only this side writes to landing buffers, so a batch that failed is written to no more, and Reap
// waits for nothing; a slot whose batch is gone is used again once the owner has completed it. A
// wait spins for a short while, then sleeps on a futex. Contract: transport.h.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/transport/shm/fork_mark.h"
#include "client/transport/shm/shm_attach.h"
#include "client/transport/ticket_table.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"
#include "memstore/shm/ring.h"

namespace engram {

class ShmRingTransport : public Transport {
 public:
  // The attachment's memory is the ring's region. A test may leave the socket closed.
  ShmRingTransport(ForkMark mark, ShmAttachment attachment);
  ~ShmRingTransport() override;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return attachment_.attached; }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status WaitSuperseded(std::stop_token stop) override {
    return attachment_.WaitSuperseded(stop);
  }
  absl::StatusOr<Ticket> Submit(const BatchRequest& batch) override;
  TicketState Poll(Ticket ticket) override;
  absl::Status Wait(Ticket ticket) override;
  absl::Status WaitLayer(Ticket ticket, size_t index) override;
  void Cancel(Ticket ticket) override;
  void Reap(Ticket ticket) override;

 private:
  // One layer of a batch: `rows` ids from `first_id` on.
  struct Part {
    uint32_t layer = 0;
    uint32_t row_bytes = 0;
    size_t first_id = 0;
    size_t rows = 0;
    size_t submitted = 0;
    size_t landed = 0;
    Landing landing;
  };
  struct Batch {
    uint64_t number = 0;
    MonotonicTime deadline;
    TicketState state = TicketState::kInFlight;
    absl::Status status;
    std::vector<Part> parts;
    std::vector<RowId> ids;
    size_t next_part = 0;  // the first with rows that are not submitted
    size_t to_land = 0;    // rows of all parts
  };
  // What a slot was filled with; the batch is null when it was given up since.
  struct Piece {
    std::shared_ptr<Batch> batch;
    size_t part = 0;
    size_t first = 0;
    size_t rows = 0;
  };

  absl::Status WaitUntil(Ticket ticket, size_t parts);
  void SleepOn(uint32_t seen, MonotonicTime deadline);
  bool OwnerIsGone() const;
  // These need mutex_.
  std::shared_ptr<Batch> Take(const BatchRequest& batch);
  void Advance();
  void TakeRows();
  void SubmitPieces();
  void FillSlot(const std::shared_ptr<Batch>& batch);
  void Fail(Batch& batch, absl::Status status);
  void FailIfLate(Batch& batch, MonotonicTime now);
  void BreakAsGone();
  void LetGo(const std::shared_ptr<Batch>& batch);
  void Break(absl::Status status);

  const ForkMark mark_;
  ShmAttachment attachment_;
  const RingView ring_;
  const Capabilities capabilities_;
  TicketTable<Batch> tickets_;
  std::mutex mutex_;
  absl::Status broken_;     // why the ring serves no more
  uint32_t submitted_ = 0;  // pieces; this side's own counts, whatever the region says
  uint32_t taken_ = 0;
  uint64_t batches_ = 0;
  MonotonicTime next_look_;  // of Poll's at the owner's socket
  std::array<Piece, kRingSlots> pieces_;
  std::vector<std::shared_ptr<Batch>> queue_;  // with pieces to submit, oldest first
  std::vector<std::shared_ptr<Batch>> spare_;  // to be used again with what they have allocated
};

}  // namespace engram
