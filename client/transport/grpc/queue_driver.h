// One completion queue, driven by whoever waits.
//
// Handing a reply from a thread of ours to the caller's would cost a wake-up, most of a small
// batch's time. So the thread that waits takes the events itself, one at a time, until what it
// waits for is there; others that wait meanwhile sleep and take over. When nobody waits for a while
// and work is under way, a thread of the driver's own ("engram-grpc") takes the events, so that
// rows land while the caller computes. Thread-safe.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "proto/rpc/queue_event.h"

namespace engram {

class QueueDriver {
 public:
  QueueDriver() = default;
  ~QueueDriver();  // Stop has been called

  // A thread that waits for the only piece of work under way looks for it for up to `spin` before
  // it sleeps (take_event.h); with several under way their events come together while it sleeps.
  // RESOURCE_EXHAUSTED when the thread cannot be started.
  absl::Status Start(absl::Duration spin);
  // Ends the thread; then drives the queue until `ended`, shuts it down and empties it.
  void Stop(absl::FunctionRef<bool()> ended);

  grpc::CompletionQueue* queue() { return &queue_; }

  // So many pieces of work are given to the queue; one of them has come out of it, finished. While
  // one is left its events are taken, whoever waits.
  void Begin(uint64_t pieces);
  void Finish();

  // Returns true when `done` holds, false when the deadline came first. `done` is called with a
  // lock of the driver's held; it must not call back.
  bool DriveUntil(absl::FunctionRef<bool()> done, MonotonicTime deadline);
  // Takes the events that are there; does nothing while another thread drives.
  void TakeReady();
  // Makes those who wait look at what they wait for again.
  void Kick();

 private:
  enum class Taken { kEvent, kTimeout, kShutdown };
  // Takes one event, without the lock, as the driver.
  Taken TakeOne(std::unique_lock<std::mutex>& lock, std::chrono::microseconds spin,
                MonotonicTime deadline);
  void RunInBackground();

  struct Nudge final : rpc::QueueEvent {
    void Done(bool) override {}
  };

  std::chrono::microseconds spin_{0};
  grpc::CompletionQueue queue_;
  std::mutex mutex_;
  std::condition_variable changed_;  // an event was taken, or the role of the driver is free
  std::condition_variable background_;
  bool driving_ = false;  // guarded by mutex_, as what follows
  uint64_t turns_ = 0;    // how often somebody drove
  uint32_t waiting_ = 0;  // threads in DriveUntil that do not drive
  uint64_t under_way_ = 0;
  bool background_idle_ = false;
  bool stopping_ = false;
  Nudge nudge_;
  grpc::Alarm alarm_;
  bool nudged_ = false;
  std::thread thread_;
};

}  // namespace engram
