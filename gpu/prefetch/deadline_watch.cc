#include "gpu/prefetch/deadline_watch.h"

#include <algorithm>
#include <utility>

#include "memstore/base/clock.h"
#include "memstore/os/thread.h"

namespace engram {
namespace {

// Clocks of the standard library hold no infinite time.
constexpr absl::Duration kLongestSleep = absl::Hours(1);

}  // namespace

absl::StatusOr<std::unique_ptr<DeadlineWatch>> DeadlineWatch::Start(
    std::vector<StepState*> states) {
  std::unique_ptr<DeadlineWatch> watch(new DeadlineWatch(std::move(states)));
  absl::StatusOr<std::thread> thread =
      StartThread("engram-deadline", [raw = watch.get()] { raw->Run(); });
  if (!thread.ok()) return thread.status();
  watch->thread_ = *std::move(thread);
  return watch;
}

DeadlineWatch::~DeadlineWatch() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void DeadlineWatch::Watch(MonotonicTime deadline) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (deadline < sleeps_until_) changed_.notify_one();
}

void DeadlineWatch::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!ending_) {
    const MonotonicTime now = RealClock().Now();
    sleeps_until_ = now + kLongestSleep;
    for (StepState* const state : states_) {
      sleeps_until_ = std::min(sleeps_until_, state->Expire(now));
    }
    changed_.wait_until(lock, ToSteadyTime(sleeps_until_));
  }
}

}  // namespace engram
