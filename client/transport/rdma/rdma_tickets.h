// What a request way tells the tickets of its batches (ticketed_transport.h): the exchange's part
// of that, so that ways and requests need no transport.
//
// All is called under the exchange's lock; nothing blocks or allocates but an error's message.
#pragma once

#include <cstddef>

#include "absl/status/status.h"
#include "client/transport/rdma/rdma_batch.h"

namespace engram {

class RdmaTickets {
 public:
  virtual ~RdmaTickets() = default;

  // Something of the batch, which is IN_FLIGHT, is about to be posted: its landing may be written
  // to from now on, until OnAnswered.
  virtual void OnPosted(RdmaBatch& batch) = 0;
  // Nothing is written any more for one thing that was posted, whatever became of the batch.
  virtual void OnAnswered(RdmaBatch& batch) = 0;
  // All rows of the layer that stands at `place` in the batch are there.
  virtual void OnLayerLanded(RdmaBatch& batch, size_t place) = 0;
  // No effect on a batch that has landed, or failed before.
  virtual void OnFailed(RdmaBatch& batch, absl::Status why) = 0;
};

}  // namespace engram
