// Slots on their way from one thread to the next, first in, first out.
//
// Holds every slot of a prefetcher at most once, so it never fills. Thread-safe; a push happens
// before its pop, and that orders what both sides write to the slot.
#pragma once

#include <cstdint>
#include <vector>

#include "gpu/prefetch/step_slot.h"
#include "memstore/base/check.h"
#include "memstore/base/mutex.h"

namespace engram {

class SlotQueue {
 public:
  explicit SlotQueue(size_t slots) : ring_(slots) {}

  void Push(StepSlot* slot) {
    {
      MutexLock lock(mutex_);
      ENGRAM_CHECK(pushed_ - popped_ < ring_.size(), "a slot is in the queue twice");
      ring_[pushed_++ % ring_.size()] = slot;
    }
    changed_.NotifyOne();
  }
  // Waits for one; null once Close was called and all were taken.
  StepSlot* Pop() {
    MutexLock lock(mutex_);
    while (popped_ == pushed_ && !closed_) changed_.Wait(mutex_);
    return popped_ < pushed_ ? ring_[popped_++ % ring_.size()] : nullptr;
  }
  void Close() {
    {
      MutexLock lock(mutex_);
      closed_ = true;
    }
    changed_.NotifyOne();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<StepSlot*> ring_ ABSL_GUARDED_BY(mutex_);
  uint64_t pushed_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t popped_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace engram
