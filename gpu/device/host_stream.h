// The host backend's streams and events. Contract: device.h.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gpu/device/device.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram {

class HostEvent : public Event {
 public:
  absl::Status Wait(MonotonicTime deadline) override;

 private:
  friend class HostStream;
  std::atomic<uint32_t> recorded_{0};  // how often it was enqueued
  std::atomic<uint32_t> passed_{0};    // which of them has been passed
};

class HostStream : public Stream {
 public:
  static absl::StatusOr<std::unique_ptr<Stream>> Start(const std::string& name,
                                                       absl::Duration spin);
  ~HostStream() override;

  absl::Status Copy(void* to, const void* from, size_t bytes) override;
  absl::Status WaitWord(const std::atomic<uint32_t>* word, WordTest test, uint32_t value) override;
  absl::Status Record(Event& event) override;
  absl::Status WaitEvent(Event& event) override;
  absl::Status CallHost(void (*function)(void*), void* argument) override;
  absl::Status Synchronize() override;
  absl::Status BeginCapture() override;
  absl::StatusOr<std::unique_ptr<Graph>> EndCapture() override;
  bool capturing() const override { return capture_ != nullptr; }
  absl::Status Launch(Graph& graph) override;
  void* native() const override { return nullptr; }

 protected:
  absl::Status EnqueueKernel(void (*run)(const void*), const void* kernel, size_t bytes) override;

 private:
  struct Operation {
    void (*run)(const void* arguments) = nullptr;
    alignas(std::max_align_t) std::byte arguments[kMaxHostKernelBytes];
  };
  class Captured;

  explicit HostStream(absl::Duration spin);
  template <typename Callable>
  absl::Status Enqueue(const Callable& callable);
  void Run();

  const absl::Duration spin_;
  std::unique_ptr<Captured> capture_;  // while capturing; the enqueuing thread's

  Mutex mutex_;
  CondVar work_there_;  // an operation was queued, or the stream ends
  CondVar caught_up_;   // all that was queued is done
  // A ring: operation i is at i % size. One that was queued and is not done is the thread's, which
  // reads it without the lock.
  std::vector<Operation> operations_ ABSL_GUARDED_BY(mutex_);
  uint64_t queued_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace engram
