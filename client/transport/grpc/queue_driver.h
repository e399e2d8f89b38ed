// One completion queue, driven by whoever waits.
//
// Handing a reply from a thread of ours to the caller's would cost a wake-up, most of a small
// batch's time. So the thread that waits takes the events itself, one at a time, until what it
// waits for is there; others that wait meanwhile sleep and take over. When nobody waits for a while
// and work is under way, a thread of the driver's own ("engram-grpc") takes the events, so that
// rows land while the caller computes.
//
// Several transports may share one, and so its thread: each keeps a shared_ptr, and calls DriveOut
// before it goes, so that nothing of its own is in the queue. Whoever drives tells the events of
// all of them. Events (proto/rpc/queue_event.h) are told without a lock of the driver's, one at a
// time. Thread-safe, but for the destructor, which runs when the last of them has gone.
//
// Time is the Clock's, for timers too. gRPC's own alarms are rung by a thread that sleeps by the
// wall clock, and so does a thread in a queue while another one of the process looks at the
// sockets: set back, they come late by as much. So whoever sleeps in the queue for longer than it
// meant to is woken, by those who wait and, while work is under way, by the driver's own thread.
// Left over: that thread itself, where nobody waits.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <thread>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/os/adaptive_spin.h"
#include "proto/rpc/queue_event.h"

namespace engram {

class QueueDriver {
 public:
  // A thread that waits for the only piece of work under way looks for it for up to `spin` before
  // it sleeps, where that does any good (adaptive_spin.h); with several under way their events come
  // together while it sleeps. RESOURCE_EXHAUSTED: the thread cannot be started. `clock` outlives
  // the driver.
  static absl::StatusOr<std::shared_ptr<QueueDriver>> Create(absl::Duration spin,
                                                             Clock& clock = RealClock());
  // Every piece of work has finished, and nobody waits.
  ~QueueDriver();

  grpc::CompletionQueue* queue() { return &queue_; }

  // So many pieces of work are given to the queue; one of them has come out of it, finished. While
  // one is left its events are taken, whoever waits.
  void Begin(uint64_t pieces);
  void Finish();

  // Returns true when `done` holds, false when the deadline came first. `done` is called with a
  // lock of the driver's held; it must not call back.
  bool DriveUntil(absl::FunctionRef<bool()> done, MonotonicTime deadline);
  // For one who goes: drives until `ended` (as `done` above: all of its events have been taken),
  // and returns when none of them is still being told by another thread.
  void DriveOut(absl::FunctionRef<bool()> ended);
  // Takes the events that are there; does nothing while another thread drives.
  void TakeReady();
  // Makes those who wait look at what they wait for again.
  void Kick();

  // Tells the event once, as those of the queue: with ok when `at` has come, by whoever drives then
  // (its own thread while work is under way), else when it is called off.
  void SetTimer(MonotonicTime at, rpc::QueueEvent& event);
  // Does nothing where the event has been told. A look at every timer.
  void CallOff(rpc::QueueEvent& event);

 private:
  struct Nudge final : rpc::QueueEvent {
    void Done(bool) override {}
  };

  struct Timer {
    void* tag = nullptr;
    bool ok = true;
  };

  QueueDriver(absl::Duration spin, Clock& clock);

  // Takes one event, or rings a timer, without the lock, as the driver; whether there was one. It
  // sleeps until then at most, having looked for a moment if it is to; MonotonicTime() does not
  // sleep.
  bool TakeOne(bool look, MonotonicTime until) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool TakeDueTimer(Timer* due) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sleeps until somebody has driven for a turn, or the deadline.
  void AwaitTurn(MonotonicTime deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the turn of a thread that sleeps in the queue.
  void NudgeDriver() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The same where it should have ended by itself.
  void NudgeLateDriver() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::chrono::nanoseconds LeftUntil(MonotonicTime deadline) const;
  void RunInBackground();

  Clock& clock_;
  grpc::CompletionQueue queue_;
  Mutex mutex_;
  CondVar changed_;  // a turn is over: an event was taken, or the role of the driver is free
  CondVar background_;
  bool driving_ ABSL_GUARDED_BY(mutex_) = false;
  MonotonicTime driving_until_ ABSL_GUARDED_BY(mutex_);  // of who drives
  uint64_t turns_ ABSL_GUARDED_BY(mutex_) = 0;           // how often somebody drove
  uint32_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;         // threads in AwaitTurn
  uint64_t under_way_ ABSL_GUARDED_BY(mutex_) = 0;
  bool background_idle_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool nudged_ ABSL_GUARDED_BY(mutex_) = false;  // its event has not been taken
  std::multimap<MonotonicTime, Timer> timers_ ABSL_GUARDED_BY(mutex_);
  Nudge nudge_;
  AdaptiveSpin spin_;  // the driver's
  grpc::Alarm alarm_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace engram
