#include "gpu/prefetch/deadline_watch.h"

#include <algorithm>
#include <utility>

#include "memstore/base/clock.h"
#include "memstore/os/thread.h"

namespace engram {

absl::StatusOr<std::unique_ptr<DeadlineWatch>> DeadlineWatch::Start(std::vector<StepState*> states,
                                                                    Clock& clock) {
  std::unique_ptr<DeadlineWatch> watch(new DeadlineWatch(std::move(states), clock));
  absl::StatusOr<std::thread> thread =
      StartThread("engram-deadline", [raw = watch.get()] { raw->Run(); });
  if (!thread.ok()) return thread.status();
  watch->thread_ = *std::move(thread);
  return watch;
}

DeadlineWatch::~DeadlineWatch() {
  {
    MutexLock lock(mutex_);
    ending_ = true;
  }
  changed_.NotifyOne();
  if (thread_.joinable()) thread_.join();
}

void DeadlineWatch::Watch(MonotonicTime deadline) {
  MutexLock lock(mutex_);
  if (deadline < sleeps_until_) changed_.NotifyOne();
}

void DeadlineWatch::Run() {
  MutexLock lock(mutex_);
  while (!ending_) {
    const MonotonicTime now = clock_.Now();
    sleeps_until_ = MonotonicTime::Infinite();
    for (StepState* const state : states_) {
      sleeps_until_ = std::min(sleeps_until_, state->Expire(now));
    }
    clock_.WaitUntil(changed_, mutex_, sleeps_until_);
  }
}

}  // namespace engram
