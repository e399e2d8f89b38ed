// What a transport keeps for a ticket: the part that is the same under every transport
// (ticketed_transport.h). A transport derives from it what it adds: ids, places, requests.
//
// Made once and used for one ticket after the other, so that what it has allocated stays. All that
// is public may be read without a lock, by a thread that holds a reference or works within a hook
// of the transport; it is written by TicketedTransport alone, with the transport's lock held.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"

namespace engram {

class TicketedBatch {
 public:
  TicketedBatch() = default;
  virtual ~TicketedBatch() = default;
  TicketedBatch(const TicketedBatch&) = delete;
  TicketedBatch& operator=(const TicketedBatch&) = delete;

  Ticket ticket() const { return ticket_; }
  MonotonicTime deadline() const { return deadline_; }
  size_t layers() const { return layers_; }

  TicketState state() const { return state_.load(std::memory_order_acquire); }
  bool in_flight() const { return state() == TicketState::kInFlight; }
  // Whether the layer that stands at `index` in the batch is in place, whatever becomes of others.
  bool LayerLanded(size_t index) const {
    return index < layers_ && landed_[index].load(std::memory_order_acquire);
  }
  // What may write to the batch's landing buffers at this moment.
  uint32_t writers() const { return writers_.load(std::memory_order_acquire); }

 protected:
  // Whether what it has allocated is worth keeping for another batch.
  virtual bool MayBeKept() const { return true; }

 private:
  friend class TicketedTransport;
  template <typename Batch>
  friend class TicketRef;

  // Readies it for another ticket; nobody else refers to it.
  void Begin(Ticket ticket, const BatchRequest& request, TicketState state);
  // Whether there is something that the sink has not been told.
  bool HasNews() const;
  bool AllLayersLanded() const { return landed_layers_ == layers_; }

  std::atomic<uint32_t> references_{0};
  std::atomic<TicketState> state_{TicketState::kReaped};
  std::atomic<uint32_t> writers_{0};
  std::atomic<bool> published_{false};  // Submit returns, or has returned, its ticket
  Ticket ticket_;
  MonotonicTime deadline_;
  absl::Status status_;  // why it failed
  size_t layers_ = 0;
  size_t landed_layers_ = 0;
  size_t landed_capacity_ = 0;
  std::unique_ptr<std::atomic<bool>[]> landed_;
  bool cancel_tried_ = false;
  bool reaping_ = false;

  CompletionSink* sink_ = nullptr;
  uint64_t sink_tag_ = 0;
  std::vector<size_t> landed_order_;  // of the layers, where there is a sink
  size_t told_layers_ = 0;            // of them
  bool told_end_ = false;
  bool waits_to_tell_ = false;  // is in the transport's list
  bool telling_ = false;        // some thread is in a call of the sink's
};

// Keeps a batch from being used for another ticket, or freed, while it is held. Copying costs an
// atomic increment.
template <typename Batch>
class TicketRef {
 public:
  TicketRef() = default;
  explicit TicketRef(Batch* batch) : batch_(batch) {
    if (batch_ != nullptr) batch_->references_.fetch_add(1, std::memory_order_relaxed);
  }
  TicketRef(const TicketRef& other) : TicketRef(other.batch_) {}
  TicketRef(TicketRef&& other) noexcept : batch_(std::exchange(other.batch_, nullptr)) {}
  TicketRef& operator=(TicketRef other) noexcept {
    std::swap(batch_, other.batch_);
    return *this;
  }
  ~TicketRef() {
    if (batch_ == nullptr) return;
    if (batch_->references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete batch_;
  }

  Batch* get() const { return batch_; }
  Batch& operator*() const { return *batch_; }
  Batch* operator->() const { return batch_; }
  // Whether nobody else holds one: what others did with the batch has been done.
  bool IsOnly() const { return batch_->references_.load(std::memory_order_acquire) == 1; }
  friend bool operator==(const TicketRef& a, const Batch* b) { return a.batch_ == b; }

 private:
  Batch* batch_ = nullptr;
};

}  // namespace engram
