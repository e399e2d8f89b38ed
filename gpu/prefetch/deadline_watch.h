// A thread that ends every layer whose deadline passes, whatever its fetch is doing.
//
// It sleeps until the earliest deadline there is, so a step that ends in time costs it nothing but,
// at its deadline, one look. Watch is thread-safe.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gpu/prefetch/step_state.h"
#include "memstore/base/clock.h"

namespace engram {

class DeadlineWatch {
 public:
  // `states` outlive it.
  static absl::StatusOr<std::unique_ptr<DeadlineWatch>> Start(std::vector<StepState*> states);
  ~DeadlineWatch();

  // A step has begun that has this deadline.
  void Watch(MonotonicTime deadline);

 private:
  explicit DeadlineWatch(std::vector<StepState*> states) : states_(std::move(states)) {}
  void Run();

  const std::vector<StepState*> states_;
  std::mutex mutex_;
  std::condition_variable changed_;  // an earlier deadline, or the end
  MonotonicTime sleeps_until_ = MonotonicTime::Infinite();
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace engram
