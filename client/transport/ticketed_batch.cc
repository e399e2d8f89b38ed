#include "client/transport/ticketed_batch.h"

namespace engram {

void TicketedBatch::Begin(Ticket ticket, const BatchRequest& request, TicketState state) {
  ticket_ = ticket;
  deadline_ = request.deadline;
  status_ = absl::OkStatus();
  layers_ = request.layers.size();
  if (layers_ > landed_capacity_) {
    landed_ = std::make_unique<std::atomic<bool>[]>(layers_);
    landed_capacity_ = layers_;
  }
  const bool landed = state == TicketState::kLanded;
  for (size_t i = 0; i < layers_; ++i) landed_[i].store(landed, std::memory_order_relaxed);
  landed_layers_ = landed ? layers_ : 0;
  writers_.store(0, std::memory_order_relaxed);
  cancel_tried_ = reaping_ = false;
  sink_ = request.sink;
  sink_tag_ = request.sink_tag;
  landed_order_.clear();
  if (sink_ != nullptr) {
    landed_order_.reserve(layers_);
    for (size_t i = 0; i < landed_layers_; ++i) landed_order_.push_back(i);
  }
  told_layers_ = 0;
  told_end_ = waits_to_tell_ = telling_ = false;
  published_.store(landed, std::memory_order_relaxed);
  state_.store(state, std::memory_order_release);
}

bool TicketedBatch::HasNews() const {
  if (sink_ == nullptr || told_end_) return false;
  return told_layers_ < landed_order_.size() || !in_flight();
}

}  // namespace engram
