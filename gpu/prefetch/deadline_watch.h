// A thread that ends every layer whose deadline passes, whatever its fetch is doing.
//
// It sleeps until the earliest deadline there is, so a step that ends in time costs it nothing but,
// at its deadline, one look. Watch is thread-safe.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gpu/prefetch/step_state.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram {

class DeadlineWatch {
 public:
  // `states` and `clock` outlive it.
  static absl::StatusOr<std::unique_ptr<DeadlineWatch>> Start(std::vector<StepState*> states,
                                                              Clock& clock);
  ~DeadlineWatch();

  // A step has begun that has this deadline.
  void Watch(MonotonicTime deadline);

 private:
  DeadlineWatch(std::vector<StepState*> states, Clock& clock)
      : states_(std::move(states)), clock_(clock) {}
  void Run();

  const std::vector<StepState*> states_;
  Clock& clock_;
  Mutex mutex_;
  CondVar changed_;  // an earlier deadline, or the end
  MonotonicTime sleeps_until_ ABSL_GUARDED_BY(mutex_) = MonotonicTime::Infinite();
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace engram
