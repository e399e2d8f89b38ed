#include "client/transport/grpc/queue_driver.h"

#include <algorithm>

#include "memstore/base/clock.h"
#include "memstore/os/thread.h"
#include "proto/rpc/grpc_time.h"
#include "proto/rpc/take_event.h"

namespace engram {
namespace {

// How long work is under way without anybody waiting before the driver's own thread sees to it:
// longer than a small batch takes, far shorter than a step of a model.
constexpr std::chrono::microseconds kBackgroundDelay{1000};
// How long that thread stays near after the last work, so that a caller with one batch after the
// other does not wake it each time.
constexpr int kLingerRounds = 10;
// It gives way to a waiting thread at the latest after this long without an event.
constexpr absl::Duration kBackgroundTurn = absl::Milliseconds(5);
constexpr std::chrono::microseconds kNoSpin{0};

std::chrono::nanoseconds LeftUntil(MonotonicTime deadline) {
  return absl::ToChronoNanoseconds(deadline - RealClock().Now());
}

}  // namespace

QueueDriver::~QueueDriver() {
  if (thread_.joinable()) Stop([] { return true; });
}

absl::Status QueueDriver::Start(absl::Duration spin) {
  spin_ = absl::ToChronoMicroseconds(spin);
  absl::StatusOr<std::thread> thread = StartThread("engram-grpc", [this] { RunInBackground(); });
  if (!thread.ok()) return thread.status();
  thread_ = *std::move(thread);
  return absl::OkStatus();
}

void QueueDriver::Stop(absl::FunctionRef<bool()> ended) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    background_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  DriveUntil(ended, MonotonicTime::Infinite());
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) rpc::QueueEvent::Dispatch(tag, ok);
}

void QueueDriver::Begin(uint64_t pieces) {
  const std::lock_guard<std::mutex> lock(mutex_);
  under_way_ += pieces;
  if (background_idle_) background_.notify_all();
}

void QueueDriver::Finish() {
  const std::lock_guard<std::mutex> lock(mutex_);
  --under_way_;
}

QueueDriver::Taken QueueDriver::TakeOne(std::unique_lock<std::mutex>& lock,
                                        std::chrono::microseconds spin, MonotonicTime deadline) {
  driving_ = true;
  lock.unlock();
  void* tag = nullptr;
  bool ok = false;
  const auto what = rpc::TakeEvent(queue_, &tag, &ok, spin, LeftUntil(deadline));
  if (what == grpc::CompletionQueue::GOT_EVENT) rpc::QueueEvent::Dispatch(tag, ok);
  lock.lock();
  driving_ = false;
  ++turns_;
  if (what == grpc::CompletionQueue::GOT_EVENT && tag == nudge_.tag()) {
    nudged_ = false;
  }
  if (waiting_ > 0) changed_.notify_all();
  return what == grpc::CompletionQueue::GOT_EVENT ? Taken::kEvent
         : what == grpc::CompletionQueue::TIMEOUT ? Taken::kTimeout
                                                  : Taken::kShutdown;
}

bool QueueDriver::DriveUntil(absl::FunctionRef<bool()> done, MonotonicTime deadline) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!done()) {
    if (deadline != MonotonicTime::Infinite() && RealClock().Now() >= deadline) return false;
    if (!driving_) {
      TakeOne(lock, under_way_ == 1 ? spin_ : kNoSpin, deadline);
      continue;
    }
    ++waiting_;
    if (deadline == MonotonicTime::Infinite()) {
      changed_.wait(lock);
    } else {
      changed_.wait_until(lock, ToSteadyTime(deadline));
    }
    --waiting_;
  }
  // Whoever waits takes over.
  if (waiting_ > 0) changed_.notify_all();
  return true;
}

void QueueDriver::TakeReady() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!driving_ && TakeOne(lock, kNoSpin, MonotonicTime()) == Taken::kEvent) {
  }
}

void QueueDriver::Kick() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (waiting_ > 0) changed_.notify_all();
  if (!driving_ || nudged_ || stopping_) return;
  nudged_ = true;
  alarm_.Set(&queue_, rpc::AtOnce(), nudge_.tag());
}

void QueueDriver::RunInBackground() {
  std::unique_lock<std::mutex> lock(mutex_);
  int quiet = 0;
  while (!stopping_) {
    if (under_way_ == 0 && ++quiet > kLingerRounds) {
      background_idle_ = true;
      background_.wait(lock, [this] { return stopping_ || under_way_ > 0; });
      background_idle_ = false;
      quiet = 0;
      continue;
    }
    if (under_way_ > 0) quiet = 0;
    const uint64_t turns = turns_;
    background_.wait_for(lock, kBackgroundDelay);
    if (turns != turns_) continue;  // somebody drives, now and then at least
    while (!stopping_ && !driving_ && waiting_ == 0 && under_way_ > 0) {
      TakeOne(lock, kNoSpin, RealClock().Now() + kBackgroundTurn);
    }
  }
}

}  // namespace engram
