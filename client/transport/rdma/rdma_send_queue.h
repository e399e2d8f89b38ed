// Batches of an RDMA client with something left to send, oldest first.
//
// Pure; whoever has it guards it. Room for every open ticket is there from the start, so it never
// allocates; taking from the front moves the rest, a few hundred pointers at most.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "client/transport/rdma/rdma_batch.h"

namespace engram {

class RdmaSendQueue {
 public:
  explicit RdmaSendQueue(size_t most) { batches_.reserve(most); }

  // Batches come in the order in which they were submitted.
  void Add(std::shared_ptr<RdmaBatch> batch) { batches_.push_back(std::move(batch)); }

  // The oldest batch that has something to send; forgets those that have not. Null: none has.
  std::shared_ptr<RdmaBatch> Next() {
    while (!batches_.empty()) {
      const std::shared_ptr<RdmaBatch>& batch = batches_.front();
      if (batch->state == TicketState::kInFlight && !batch->AllWritten()) return batch;
      batches_.erase(batches_.begin());
    }
    return nullptr;
  }

  void Remove(const std::shared_ptr<RdmaBatch>& batch) {
    batches_.erase(std::remove(batches_.begin(), batches_.end(), batch), batches_.end());
  }
  // Appends all, and is empty.
  void MoveTo(std::vector<std::shared_ptr<RdmaBatch>>* batches) {
    for (std::shared_ptr<RdmaBatch>& batch : batches_) batches->push_back(std::move(batch));
    batches_.clear();
  }

 private:
  std::vector<std::shared_ptr<RdmaBatch>> batches_;
};

}  // namespace engram
