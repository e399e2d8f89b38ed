// Slots on their way from one thread to the next, first in, first out.
//
// Holds every slot of a prefetcher at most once, so it never fills. Thread-safe; a push happens
// before its pop, and that orders what both sides write to the slot.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "gpu/prefetch/step_slot.h"

namespace engram {

class SlotQueue {
 public:
  explicit SlotQueue(size_t slots) : ring_(slots) {}

  void Push(StepSlot* slot) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ring_[pushed_++ % ring_.size()] = slot;
    }
    changed_.notify_one();
  }
  // Waits for one; null once Close was called and all were taken.
  StepSlot* Pop() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return popped_ < pushed_ || closed_; });
    return popped_ < pushed_ ? ring_[popped_++ % ring_.size()] : nullptr;
  }
  void Close() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      closed_ = true;
    }
    changed_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<StepSlot*> ring_;
  uint64_t pushed_ = 0;
  uint64_t popped_ = 0;
  bool closed_ = false;
};

}  // namespace engram
