#include "client/transport/grpc/queue_driver.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/thread.h"
#include "proto/rpc/grpc_time.h"
#include "proto/rpc/take_event.h"

namespace engram {
namespace {

// How long work is under way without anybody waiting before the driver's own thread sees to it:
// longer than a small batch takes, far shorter than a step of a model.
constexpr absl::Duration kBackgroundDelay = absl::Milliseconds(1);
// How long that thread stays near after the last work, so that a caller with one batch after the
// other does not wake it each time.
constexpr int kLingerRounds = 10;
// It gives way to a waiting thread at the latest after this long without an event.
constexpr absl::Duration kBackgroundTurn = absl::Milliseconds(5);
// How late a thread may come back from the queue before it is woken: gRPC rounds up to a
// millisecond, and the machine is busy.
constexpr absl::Duration kLate = absl::Milliseconds(5);

}  // namespace

absl::StatusOr<std::shared_ptr<QueueDriver>> QueueDriver::Create(absl::Duration spin,
                                                                 Clock& clock) {
  std::shared_ptr<QueueDriver> driver(new QueueDriver(spin, clock));
  ENGRAM_ASSIGN_OR_RETURN(driver->thread_, StartThread("engram-grpc", [raw = driver.get()] {
                            raw->RunInBackground();
                          }));
  return driver;
}

QueueDriver::QueueDriver(absl::Duration spin, Clock& clock)
    : clock_(clock), spin_(spin, RealClock(), AdaptiveSpin::Crowding::kHarmless) {}

QueueDriver::~QueueDriver() {
  {
    MutexLock lock(mutex_);
    ENGRAM_CHECK(under_way_ == 0, "a transport went and left work in the queue that it shared");
    ENGRAM_CHECK(waiting_ == 0, "somebody waits for a queue that goes");
    stopping_ = true;
    background_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
  queue_.Shutdown();
  // A nudge may be left.
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) rpc::QueueEvent::Dispatch(tag, ok);
}

void QueueDriver::Begin(uint64_t pieces) {
  MutexLock lock(mutex_);
  under_way_ += pieces;
  if (background_idle_) background_.NotifyAll();
}

void QueueDriver::Finish() {
  MutexLock lock(mutex_);
  ENGRAM_CHECK(under_way_ > 0, "a piece of work finished twice, or was never begun");
  --under_way_;
}

std::chrono::nanoseconds QueueDriver::LeftUntil(MonotonicTime deadline) const {
  if (deadline.is_infinite()) return rpc::kForever;
  return absl::ToChronoNanoseconds(deadline - clock_.Now());
}

bool QueueDriver::TakeDueTimer(Timer* due) {
  if (timers_.empty() || clock_.Now() < timers_.begin()->first) return false;
  *due = timers_.begin()->second;
  timers_.erase(timers_.begin());
  return true;
}

bool QueueDriver::TakeOne(bool look, MonotonicTime until) {
  driving_ = true;
  Timer event;
  bool taken = TakeDueTimer(&event);
  if (!timers_.empty()) until = std::min(until, timers_.begin()->first);
  // A look alone is over at once.
  const bool sleeps = !taken && until != MonotonicTime();
  driving_until_ = sleeps ? until : MonotonicTime::Infinite();
  mutex_.Unlock();
  if (!taken) {
    auto what = grpc::CompletionQueue::TIMEOUT;
    const auto take_ready = [&] {
      what = rpc::TakeReadyEvent(queue_, &event.tag, &event.ok);
      return what != grpc::CompletionQueue::TIMEOUT;
    };
    const auto sleep = [&] {
      const std::chrono::nanoseconds left = LeftUntil(until);
      if (left <= std::chrono::nanoseconds(0)) {
        take_ready();
      } else {
        what = rpc::TakeEvent(queue_, &event.tag, &event.ok, left);
      }
    };
    if (!sleeps) {
      take_ready();
    } else if (look) {
      const auto found = [&] {
        if (take_ready() || clock_.Now() >= until) return true;
        sched_yield();  // to whoever brings it, where that one runs on the same core
        return false;
      };
      spin_.Wait(found, sleep);
    } else {
      sleep();
    }
    taken = what == grpc::CompletionQueue::GOT_EVENT;
  }
  if (taken) rpc::QueueEvent::Dispatch(event.tag, event.ok);
  mutex_.Lock();
  driving_ = false;
  ++turns_;
  if (taken && event.tag == nudge_.tag()) nudged_ = false;
  // All of them: what came may be anybody's, and one of them drives next.
  if (waiting_ > 0) changed_.NotifyAll();
  return taken;
}

void QueueDriver::AwaitTurn(MonotonicTime deadline) {
  NudgeLateDriver();
  ++waiting_;
  clock_.WaitUntil(changed_, mutex_,
                   nudged_ ? deadline : std::min(deadline, driving_until_ + kLate));
  --waiting_;
}

bool QueueDriver::DriveUntil(absl::FunctionRef<bool()> done, MonotonicTime deadline) {
  MutexLock lock(mutex_);
  while (!done()) {
    if (!deadline.is_infinite() && clock_.Now() >= deadline) return false;
    if (driving_) {
      AwaitTurn(deadline);
    } else {
      TakeOne(/*look=*/under_way_ == 1, deadline);
    }
  }
  return true;
}

void QueueDriver::DriveOut(absl::FunctionRef<bool()> ended) {
  while (true) {
    DriveUntil(ended, MonotonicTime::Infinite());
    // Whoever drives at this moment may have taken the last of the events and be telling it, and
    // begin something else by that.
    MutexLock lock(mutex_);
    const uint64_t turn = turns_;
    NudgeDriver();
    while (driving_ && turns_ == turn) AwaitTurn(MonotonicTime::Infinite());
    if (ended()) return;
  }
}

void QueueDriver::TakeReady() {
  MutexLock lock(mutex_);
  while (!driving_ && TakeOne(/*look=*/false, MonotonicTime())) {
  }
}

void QueueDriver::Kick() {
  MutexLock lock(mutex_);
  if (waiting_ > 0) changed_.NotifyAll();
  NudgeDriver();
}

void QueueDriver::SetTimer(MonotonicTime at, rpc::QueueEvent& event) {
  MutexLock lock(mutex_);
  timers_.emplace(at, Timer{.tag = event.tag()});
  if (at < driving_until_) NudgeDriver();
}

void QueueDriver::CallOff(rpc::QueueEvent& event) {
  MutexLock lock(mutex_);
  const auto at = std::find_if(timers_.begin(), timers_.end(),
                               [&](const auto& timer) { return timer.second.tag == event.tag(); });
  if (at == timers_.end()) return;
  timers_.erase(at);
  timers_.emplace(MonotonicTime(), Timer{.tag = event.tag(), .ok = false});
  NudgeDriver();
}

void QueueDriver::NudgeLateDriver() {
  if (driving_ && clock_.Now() >= driving_until_ + kLate) NudgeDriver();
}

void QueueDriver::NudgeDriver() {
  if (!driving_ || nudged_) return;
  nudged_ = true;
  alarm_.Set(&queue_, rpc::AtOnce(), nudge_.tag());
}

void QueueDriver::RunInBackground() {
  MutexLock lock(mutex_);
  int quiet = 0;
  while (!stopping_) {
    if (under_way_ == 0 && ++quiet > kLingerRounds) {
      background_idle_ = true;
      while (!stopping_ && under_way_ == 0) background_.Wait(mutex_);
      background_idle_ = false;
      quiet = 0;
      continue;
    }
    if (under_way_ > 0) quiet = 0;
    const uint64_t turns = turns_;
    if (clock_.WaitUntil(background_, mutex_, clock_.After(kBackgroundDelay))) continue;
    NudgeLateDriver();
    if (turns != turns_) continue;  // somebody drives, now and then at least
    while (!stopping_ && !driving_ && waiting_ == 0 && under_way_ > 0) {
      TakeOne(/*look=*/false, clock_.After(kBackgroundTurn));
    }
  }
}

}  // namespace engram
