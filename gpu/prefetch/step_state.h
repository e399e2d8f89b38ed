// What becomes of the step that has a slot: a status word a layer, the first error, and whether the
// buffers are back.
//
// A layer ends once: whoever comes second (a late completion, the deadline, Cancel) changes
// nothing, and neither does anyone who speaks of a step that the slot no longer has. Thread-safe: a
// lock for each call, held for nanoseconds. The words lie in pinned memory and are written here
// alone; streams wait for them.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gpu/device/device.h"
#include "gpu/device/status_word.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram {

// A layer's word has a cache line of its own.
inline constexpr size_t kStatusWordStride = 16;

class StepState {
 public:
  // `words`: kStatusWordStride a layer; `layers`: their numbers, for messages. `device` and `clock`
  // outlive it.
  StepState(Device& device, std::atomic<uint32_t>* words, absl::Span<const uint32_t> layers,
            Clock& clock)
      : device_(device), words_(words), layers_(layers.begin(), layers.end()), clock_(clock) {}

  // The slot is `step`'s: every layer is in flight, the buffers are lent.
  void Begin(uint64_t step, MonotonicTime deadline);
  // OK: LANDED; else FAILED, and the first such status is the step's. False: it had ended.
  bool End(uint64_t step, size_t layer, const absl::Status& status);
  // The same for all layers that have not ended.
  void EndAll(uint64_t step, const absl::Status& status);
  // Nobody writes to the step's buffers any more.
  void Release(uint64_t step);

  bool InFlight(uint64_t step, size_t layer) const;
  bool AnyInFlight(uint64_t step) const;
  // Ends the layers whose deadline has passed. The deadline to look again at, Infinite() when
  // there is none.
  MonotonicTime Expire(MonotonicTime now);
  // Until all layers have ended, and then until the buffers are back but at most `patience`.
  // Whether they are back.
  bool Await(uint64_t step, absl::Duration patience) const;
  bool released() const;
  absl::Status error() const;

  const std::atomic<uint32_t>* word(size_t layer) const {
    return &words_[layer * kStatusWordStride];
  }

 private:
  bool EndLocked(uint64_t step, size_t layer, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Device& device_;
  std::atomic<uint32_t>* const words_;
  const std::vector<uint32_t> layers_;

  Clock& clock_;

  mutable Mutex mutex_;
  mutable CondVar changed_;  // the last layer ended, or the buffers are back
  uint64_t step_ ABSL_GUARDED_BY(mutex_) = 0;
  MonotonicTime deadline_ ABSL_GUARDED_BY(mutex_);
  size_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;  // layers
  bool released_ ABSL_GUARDED_BY(mutex_) = true;
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
