// Batches of an RDMA client with something left to send, oldest first.
//
// Pure; whoever has it guards it, and has those removed that are used for another ticket. Room for
// every open ticket is there from the start, so it never allocates; taking from the front moves the
// rest, a few hundred pointers at most.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "client/transport/rdma/rdma_batch.h"

namespace engram {

class RdmaSendQueue {
 public:
  explicit RdmaSendQueue(size_t most) { batches_.reserve(most); }

  // Batches come in the order in which they were submitted.
  void Add(RdmaBatch* batch) { batches_.push_back(batch); }

  // The oldest batch that has something to send; forgets those that have not. Null: none has.
  RdmaBatch* Next() {
    while (!batches_.empty()) {
      RdmaBatch* const batch = batches_.front();
      if (batch->in_flight() && !batch->AllWritten()) return batch;
      batches_.erase(batches_.begin());
    }
    return nullptr;
  }

  void Remove(const RdmaBatch* batch) {
    batches_.erase(std::remove(batches_.begin(), batches_.end(), batch), batches_.end());
  }
  // Appends all, and is empty.
  void MoveTo(std::vector<RdmaBatch*>* batches) {
    batches->insert(batches->end(), batches_.begin(), batches_.end());
    batches_.clear();
  }

 private:
  std::vector<RdmaBatch*> batches_;
};

}  // namespace engram
