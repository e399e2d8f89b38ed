#include "client/transport/rdma/rdma_requests.h"

#include <utility>

#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

absl::Status NotUnderWay() {
  return absl::InternalError("the owner answered a request that is not under way: attach again");
}

}  // namespace

RdmaRequests::RdmaRequests() {
  for (uint32_t i = kRdmaCredits; i > 0; --i) free_.push_back(static_cast<uint8_t>(i - 1));
}

RdmaTag RdmaRequests::NextTag() {
  ENGRAM_CHECK(!free_.empty(), "more requests than the owner takes");
  return {free_.back(), ++slots_[free_.back()].generation};
}

void RdmaRequests::Sent(const RdmaBatch::Request& request, RdmaBatch* batch) {
  Slot& slot = slots_[free_.back()];
  free_.pop_back();
  slot.request = request;
  slot.answered = 0;
  slot.batch = batch;
}

RdmaRequests::Slot* RdmaRequests::Find(RdmaTag tag) {
  if (tag.slot >= slots_.size()) return nullptr;
  Slot& slot = slots_[tag.slot];
  return slot.batch != nullptr && slot.generation == tag.generation ? &slot : nullptr;
}

absl::Status RdmaRequests::TakeImmediate(uint32_t immediate, RdmaTickets& tickets) {
  Slot* const slot = Find(RdmaTagOf(immediate));
  if (slot == nullptr) return NotUnderWay();
  const uint8_t layer = RdmaLayerOf(immediate);
  const uint32_t layers = slot->request.layer_count;
  const uint32_t all = (uint32_t{1} << layers) - 1;
  const uint32_t landed = layer == kRdmaAllLayers ? all : layer < layers ? uint32_t{1} << layer : 0;
  if (landed == 0 || (slot->answered & landed) != 0) {
    return absl::InternalError("the owner answered a layer that is not asked for: attach again");
  }
  slot->answered |= landed;
  for (uint32_t i = 0; i < layers; ++i) {
    if ((landed >> i & 1) == 0) continue;
    const RdmaBatch::RequestLayer& rows = slot->request.layers[i];
    if (slot->batch->Land(rows)) tickets.OnLayerLanded(*slot->batch, rows.place);
  }
  if (slot->answered == all) Answered(*slot, tickets);
  return absl::OkStatus();
}

absl::Status RdmaRequests::TakeRefusal(absl::Span<const std::byte> bytes, RdmaTickets& tickets) {
  ENGRAM_ASSIGN_OR_RETURN(RdmaRefused refused, ReadRdmaRefusal(bytes));
  Slot* const slot = Find(RdmaTagOf(refused.tag));
  if (slot == nullptr) return NotUnderWay();
  tickets.OnFailed(*slot->batch, std::move(refused.status));
  Answered(*slot, tickets);
  return absl::OkStatus();
}

// The credit is back.
void RdmaRequests::Answered(Slot& slot, RdmaTickets& tickets) {
  tickets.OnAnswered(*std::exchange(slot.batch, nullptr));
  free_.push_back(static_cast<uint8_t>(&slot - slots_.data()));
}

void RdmaRequests::ForgetAll(std::vector<RdmaBatch*>* batches) {
  for (uint32_t i = 0; i < kRdmaCredits; ++i) {
    if (slots_[i].batch == nullptr) continue;
    batches->push_back(std::exchange(slots_[i].batch, nullptr));
    free_.push_back(static_cast<uint8_t>(i));
  }
}

}  // namespace engram
