// A small team of threads that gather one large batch together.
//
// The calling thread always works too, so a team of N has N - 1 threads of its own; it takes rows
// in pieces from a shared counter, so a late or busy thread costs a piece, never the batch.
// Thread-safe: any number of threads may call Gather at once; the hand-over is bounded, and a
// caller that finds it full gathers alone. A batch too small to be worth waking a thread is
// gathered by its caller alone. Nothing allocates after Create. Destroy it when no call is under
// way; that ends and joins its threads.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/base/mutex.h"
#include "memstore/gather/gather.h"

namespace engram {

class GatherTeam {
 public:
  // `threads` counts the caller, 1..kMaxThreads; its own are named "NAME/1" and so on (the kernel
  // keeps 15 characters). INVALID_ARGUMENT for another number; RESOURCE_EXHAUSTED when a thread
  // cannot be started.
  static absl::StatusOr<std::unique_ptr<GatherTeam>> Create(uint32_t threads,
                                                            const std::string& name);
  ~GatherTeam();
  GatherTeam(const GatherTeam&) = delete;
  GatherTeam& operator=(const GatherTeam&) = delete;

  // As engram::Gather. Returns when every row has landed.
  template <typename Id>
  void Gather(const GatherTable& table, absl::Span<const Id> ids, const Landing& landing);

  uint32_t threads() const { return static_cast<uint32_t>(workers_.size()) + 1; }

  // More would only wait for memory: a few threads use up a socket's bandwidth at random reads.
  static constexpr uint32_t kMaxThreads = 64;

 private:
  struct Job;  // one batch under way, on its caller's stack
  // Batches that may wait for a thread at once; beyond it there are more callers than threads to
  // lend.
  static constexpr size_t kMaxJobs = 16;

  GatherTeam() = default;
  void Share(Job& job);
  void Work();
  bool Offer(Job& job);
  Job* TakeJob() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LeaveJob(Job& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Withdraw(Job& job);

  Mutex mutex_;
  CondVar work_there_;   // a job was offered, or the team ends
  CondVar worker_left_;  // some job's last worker is done
  std::array<Job*, kMaxJobs> jobs_ ABSL_GUARDED_BY(mutex_){};  // oldest first
  size_t job_count_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> workers_;
};

}  // namespace engram
