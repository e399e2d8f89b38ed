// The open tickets of a transport: a fixed number of slots, so that nothing allocates and memory is
// bounded.
//
// Thread-safe. A ticket's number is its slot and how often the slot was used, so it is never given
// out twice and a reaped one is never taken for another's.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "client/transport/transport.h"

namespace engram {

// `Batch` is what the transport keeps for a ticket.
template <typename Batch>
class TicketTable {
 public:
  TicketTable() : slots_(kMaxOpenTickets) {
    free_.reserve(kMaxOpenTickets);
    for (uint32_t i = kMaxOpenTickets; i > 0; --i) free_.push_back(i - 1);
  }

  // RESOURCE_EXHAUSTED when all slots are taken.
  absl::StatusOr<Ticket> Open(std::shared_ptr<Batch> batch) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (free_.empty()) {
      return absl::ResourceExhaustedError(absl::StrCat(
          kMaxOpenTickets,
          " tickets are open: reap those that landed or failed before submitting more"));
    }
    const uint32_t index = free_.back();
    free_.pop_back();
    Slot& slot = slots_[index];
    ++slot.generation;
    slot.batch = std::move(batch);
    return Ticket{slot.generation * kMaxOpenTickets + index};
  }

  // Null when the ticket is unknown or reaped.
  std::shared_ptr<Batch> Find(Ticket ticket) const {
    std::lock_guard<std::mutex> lock(mutex_);
    const Slot& slot = slots_[ticket.number % kMaxOpenTickets];
    return slot.generation == ticket.number / kMaxOpenTickets ? slot.batch : nullptr;
  }

  // Forgets the ticket; null when it was unknown or reaped already.
  std::shared_ptr<Batch> Close(Ticket ticket) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto index = static_cast<uint32_t>(ticket.number % kMaxOpenTickets);
    Slot& slot = slots_[index];
    if (slot.generation != ticket.number / kMaxOpenTickets || slot.batch == nullptr) return nullptr;
    free_.push_back(index);
    return std::exchange(slot.batch, nullptr);
  }

  // For the destructor of a transport, which reaps them.
  std::vector<Ticket> OpenTickets() const {
    std::lock_guard<std::mutex> lock(mutex_);
    std::vector<Ticket> open;
    for (uint32_t i = 0; i < kMaxOpenTickets; ++i) {
      if (slots_[i].batch != nullptr) open.push_back({slots_[i].generation * kMaxOpenTickets + i});
    }
    return open;
  }

 private:
  struct Slot {
    uint64_t generation = 0;
    std::shared_ptr<Batch> batch;
  };
  mutable std::mutex mutex_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
};

}  // namespace engram
