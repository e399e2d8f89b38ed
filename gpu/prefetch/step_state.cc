#include "gpu/prefetch/step_state.h"

#include "absl/strings/str_cat.h"
#include "memstore/base/clock.h"

namespace engram {

void StepState::Begin(uint64_t step, MonotonicTime deadline) {
  MutexLock lock(mutex_);
  step_ = step;
  deadline_ = deadline;
  in_flight_ = layers_.size();
  released_ = false;
  error_ = absl::OkStatus();
  for (size_t i = 0; i < layers_.size(); ++i) {
    words_[i * kStatusWordStride].store(StatusWord(step, RowState::kInFlight),
                                        std::memory_order_release);
  }
}

bool StepState::EndLocked(uint64_t step, size_t layer, const absl::Status& status) {
  std::atomic<uint32_t>& word = words_[layer * kStatusWordStride];
  if (step_ != step ||
      word.load(std::memory_order_relaxed) != StatusWord(step, RowState::kInFlight)) {
    return false;
  }
  if (!status.ok() && error_.ok()) {
    error_ = absl::Status(status.code(), absl::StrCat("step ", step, ", layer ", layers_[layer],
                                                      ": ", status.message()));
  }
  word.store(StatusWord(step, status.ok() ? RowState::kLanded : RowState::kFailed),
             std::memory_order_release);
  device_.WordChanged(word);
  if (--in_flight_ == 0) changed_.NotifyAll();
  return true;
}

bool StepState::End(uint64_t step, size_t layer, const absl::Status& status) {
  MutexLock lock(mutex_);
  return EndLocked(step, layer, status);
}

void StepState::EndAll(uint64_t step, const absl::Status& status) {
  MutexLock lock(mutex_);
  for (size_t i = 0; i < layers_.size(); ++i) EndLocked(step, i, status);
}

void StepState::Release(uint64_t step) {
  MutexLock lock(mutex_);
  if (step_ != step) return;
  released_ = true;
  changed_.NotifyAll();
}

bool StepState::InFlight(uint64_t step, size_t layer) const {
  return word(layer)->load(std::memory_order_acquire) == StatusWord(step, RowState::kInFlight);
}

bool StepState::AnyInFlight(uint64_t step) const {
  MutexLock lock(mutex_);
  return step_ == step && in_flight_ > 0;
}

MonotonicTime StepState::Expire(MonotonicTime now) {
  MutexLock lock(mutex_);
  if (in_flight_ > 0 && deadline_ <= now) {
    const absl::Status late = absl::DeadlineExceededError("the rows had not come by the deadline");
    for (size_t i = 0; i < layers_.size(); ++i) EndLocked(step_, i, late);
  }
  return in_flight_ > 0 ? deadline_ : MonotonicTime::Infinite();
}

bool StepState::Await(uint64_t step, absl::Duration patience) const {
  MutexLock lock(mutex_);
  while (step_ == step && in_flight_ > 0) changed_.Wait(mutex_);
  const MonotonicTime end = clock_.After(patience);
  while (step_ == step && !released_) {
    if (!clock_.WaitUntil(changed_, mutex_, end)) break;
  }
  return step_ != step || released_;
}

bool StepState::released() const {
  MutexLock lock(mutex_);
  return released_;
}

absl::Status StepState::error() const {
  MutexLock lock(mutex_);
  return error_;
}

}  // namespace engram
