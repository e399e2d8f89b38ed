// One completion queue of gRPC's, and who takes its events.
//
// Handing a reply from a thread of ours to the caller's would cost a wake-up, most of a small
// batch's time. So threads that wait for something take events from the queue themselves. To
// "drive" is to take events: one thread at a time does, the driver. It sleeps in the queue until
// there is an event, and tells it (calls QueueEvent::Done, proto/rpc/queue_event.h), whoever it is
// for. Other threads that wait meanwhile sleep on a condition variable. After each "turn" of the
// driver (it took one event, or slept in vain) all look whether what they wait for has come; the
// driver goes on or returns, and where it returned one of the others is the next driver. When work
// is under way and nobody has driven for a while, a background thread of this class ("engram-grpc")
// drives, so that rows land while the caller computes.
//
// Time is the Clock's, for timers too. gRPC's own alarms are rung by a thread that sleeps by the
// wall clock, and a thread in a queue may sleep by it as well, while another one of the process
// looks at the sockets. When the wall clock is set back, both come late by as much. So a driver
// that sleeps for longer than it meant to is woken, by threads that wait and, while work is under
// way, by the background thread. Nobody wakes the background thread where it drives itself and
// nobody waits. To wake the driver is to "nudge" it: to put an event of no meaning into the queue.
//
// Several transports, and calls that their callers wait for (blocking_call.h), may share one
// driver, and so its thread. Each transport holds a shared_ptr. Before a transport or a call goes
// it calls DriveOut, which returns when no event of its own is left. Events are told one at a time,
// and without a lock of this class held. Thread-safe, but for the destructor, which runs when the
// last of them has gone.
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

  // A piece of work is something that events, or timers, move along: a request until it has ended,
  // a call. Begin: so many have begun. Finish: one of them has ended. While one is left somebody
  // takes events, at the latest the own thread.
  void Begin(uint64_t pieces);
  void Finish();

  // Drives, or waits while another thread does, until `done` holds: true; or until the deadline:
  // false. `done` is called with a lock of this class held; it must not call back.
  bool DriveUntil(absl::FunctionRef<bool()> done, MonotonicTime deadline);
  // For whoever goes, and with it what its events tell: a transport, or one blocking call. Drives
  // until `ended` holds (called as `done` above), which says that all events of its own were taken
  // from the queue; then waits until another thread that may have taken the last of them has told
  // it, and asks again.
  void DriveOut(absl::FunctionRef<bool()> ended);
  // Takes and tells the events that are there, without sleeping; does nothing while another thread
  // drives, which takes them.
  void TakeReady();
  // Makes all threads in DriveUntil and DriveOut call their `done` again, the driver as well: what
  // they wait for may have come without an event.
  void Kick();

  // Tells the event once, as the queue's are told: with ok after `at` has come, by whoever drives
  // next (the background thread does while work is under way), or without ok after CallOff.
  void SetTimer(MonotonicTime at, rpc::QueueEvent& event);
  // Ends the event's timer early. Does nothing where the event was told already. Cost: a look at
  // every timer.
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

  // One turn as the driver: takes an event, or a timer that is due, and tells it, without the lock
  // meanwhile. Returns whether there was one. Sleeps in the queue until `until` at most, after a
  // short look if `look`; MonotonicTime(): does not sleep.
  bool TakeOne(bool look, MonotonicTime until) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool TakeDueTimer(Timer* due) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // While another thread drives: sleeps until it has ended a turn, or until the deadline.
  void AwaitTurn(MonotonicTime deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Wakes the driver by an event; one at a time is in the queue.
  void NudgeDriver() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The same where it should have come back from the queue by itself, and has not.
  void NudgeLateDriver() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::chrono::nanoseconds LeftUntil(MonotonicTime deadline) const;
  void RunInBackground();

  Clock& clock_;
  grpc::CompletionQueue queue_;
  Mutex mutex_;
  CondVar changed_;     // a turn has ended
  CondVar background_;  // of the background thread: work began, or it is to end
  bool driving_ ABSL_GUARDED_BY(mutex_) = false;
  MonotonicTime driving_until_ ABSL_GUARDED_BY(mutex_);  // when the driver means to wake up
  uint64_t turns_ ABSL_GUARDED_BY(mutex_) = 0;           // that have ended
  uint32_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;         // threads in AwaitTurn
  uint64_t under_way_ ABSL_GUARDED_BY(mutex_) = 0;       // pieces of work
  bool background_idle_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool nudged_ ABSL_GUARDED_BY(mutex_) = false;  // nudge_ is in the queue
  std::multimap<MonotonicTime, Timer> timers_ ABSL_GUARDED_BY(mutex_);
  Nudge nudge_;
  AdaptiveSpin spin_;  // the driver's
  grpc::Alarm alarm_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace engram
