// The requests of an RDMA client that its owner has not answered: a slot each, of which there are
// as many as the owner has receives posted.
//
// An answer names slot and generation, so one that belongs to nothing under way is found out. What
// an answer says is done to the request's batch whether or not that has failed meanwhile: the slot
// is free, and the owner writes no more for it. Pure; whoever has it guards it; never allocates.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "client/transport/rdma/rdma_batch.h"
#include "client/transport/rdma/rdma_tickets.h"
#include "memstore/rdma/request.h"

namespace engram {

class RdmaRequests {
 public:
  RdmaRequests();

  bool HasRoom() const { return !free_.empty(); }
  // What the next request is called; its slot is taken by Sent alone. There is room.
  RdmaTag NextTag();
  // The request that was called so is under way; the batch's tickets were told (OnPosted).
  void Sent(const RdmaBatch::Request& request, RdmaBatch* batch);

  // INTERNAL: it answers nothing that was asked; the owner is not to be trusted any more.
  absl::Status TakeImmediate(uint32_t immediate, RdmaTickets& tickets);
  absl::Status TakeRefusal(absl::Span<const std::byte> bytes, RdmaTickets& tickets);

  // Nothing is under way any more; appends the batch of each request that was.
  void ForgetAll(std::vector<RdmaBatch*>* batches);

 private:
  // What is posted is a writer of the batch, which is therefore there until the owner has answered.
  struct Slot {
    RdmaBatch* batch = nullptr;
    RdmaBatch::Request request;
    uint32_t answered = 0;  // a bit a layer
    uint16_t generation = 0;
  };

  Slot* Find(RdmaTag tag);
  void Answered(Slot& slot, RdmaTickets& tickets);

  std::array<Slot, kRdmaCredits> slots_;
  std::vector<uint8_t> free_;  // the last one is taken next
};

}  // namespace engram
