// How a prefetcher gets the rows of a step: one way over a transport, one by kernels that read
// mapped tables in place.
//
// A slot is first with the issuing thread, then, when Issue says so, with the landing thread; each
// takes slots in the order of their steps, so the layer that is due first is fetched first. Either
// ends the layers (StepState::End) and looks before each piece of work whether the layer is still
// wanted. Cancel comes from any thread.
#pragma once

#include "gpu/prefetch/step_slot.h"

namespace engram {

class RowFetch {
 public:
  virtual ~RowFetch() = default;

  // Starts the slot's step. Whether Land is to be called; if not, nobody writes to the slot's
  // buffers any more and every layer has ended.
  virtual bool Issue(StepSlot& slot) = 0;
  // Waits for what Issue left under way and ends the layers. Blocks to the deadline, and then for
  // as long as the buffers are lent (kReapTime). Nobody writes to them after.
  virtual void Land(StepSlot& slot) = 0;
  // The step's layers have been ended: give up what is under way.
  virtual void Cancel(StepSlot& slot) = 0;
  // From any thread.
  virtual HotCacheCounts hot_cache() const { return {}; }
};

}  // namespace engram
