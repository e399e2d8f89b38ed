// The open tickets of a transport and its spare batches: a fixed number of slots, so that memory is
// bounded, and nothing allocates once as many tickets were open as will be.
//
// Not thread-safe: its transport's lock guards it. A ticket's number is its slot and how often the
// slot was used, so it is never given out twice and a reaped one is never taken for another's.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "client/transport/ticketed_batch.h"
#include "client/transport/transport.h"

namespace engram {

class TicketSlots {
 public:
  // Keeps at most so many batches that were closed.
  explicit TicketSlots(size_t spares) : spares_(spares), slots_(kMaxOpenTickets) {
    free_.reserve(kMaxOpenTickets);
    for (uint32_t i = kMaxOpenTickets; i > 0; --i) free_.push_back(i - 1);
    spare_.reserve(spares_);
  }

  bool full() const { return free_.empty(); }
  bool empty() const { return free_.size() == kMaxOpenTickets; }

  // A batch that was closed and that nobody refers to any more; null when there is none.
  TicketRef<TicketedBatch> TakeSpare() {
    if (spare_.empty()) return {};
    TicketRef<TicketedBatch> batch = std::move(spare_.back());
    spare_.pop_back();
    // Something late still refers to it, and frees it when that is over.
    if (!batch.IsOnly()) return {};
    return batch;
  }
  // There is a free slot.
  Ticket Open(TicketRef<TicketedBatch> batch) {
    const uint32_t index = free_.back();
    free_.pop_back();
    Slot& slot = slots_[index];
    ++slot.generation;
    slot.batch = std::move(batch);
    return Ticket{slot.generation * kMaxOpenTickets + index};
  }
  // Null when the ticket is unknown or closed.
  TicketedBatch* Find(Ticket ticket) const {
    const Slot& slot = slots_[ticket.number % kMaxOpenTickets];
    return slot.generation == ticket.number / kMaxOpenTickets ? slot.batch.get() : nullptr;
  }
  // Forgets the ticket, which is open. `keep`: as a spare, where there is room.
  void Close(Ticket ticket, bool keep) {
    const auto index = static_cast<uint32_t>(ticket.number % kMaxOpenTickets);
    TicketRef<TicketedBatch> batch = std::move(slots_[index].batch);
    free_.push_back(index);
    if (keep && spare_.size() < spares_) spare_.push_back(std::move(batch));
  }
  // Calls `see` with each open batch.
  template <typename See>
  void ForEach(See see) const {
    for (const Slot& slot : slots_) {
      if (slot.batch.get() != nullptr) see(*slot.batch);
    }
  }

 private:
  struct Slot {
    uint64_t generation = 0;
    TicketRef<TicketedBatch> batch;
  };
  const size_t spares_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  std::vector<TicketRef<TicketedBatch>> spare_;  // the one used last is at the back
};

}  // namespace engram
