// A call of gRPC's callback API that works for a while in a thread and tells how far it is.
//
// The work never waits for the client: of what it tells, the latest is sent when the one before was
// taken, and the last message when the work is done. So a client that takes nothing keeps a few
// messages, and nothing else. Tell and End are for one thread; gRPC calls the rest.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <optional>
#include <utility>

#include "memstore/base/mutex.h"
#include "server/admin/open_calls.h"

namespace engram {

template <typename Message>
class WorkingCall final : public grpc::ServerWriteReactor<Message> {
 public:
  // On the heap: it deletes itself once it was ended and gRPC is done with it. `calls` outlives it.
  WorkingCall(OpenCalls* calls, grpc::CallbackServerContext* context)
      : calls_(calls), call_(context->c_call()) {}

  // Whether the client gave up, or engramd ends its calls.
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

  void Tell(const Message& progress) ABSL_LOCKS_EXCLUDED(mutex_) {
    Step step;
    {
      MutexLock lock(mutex_);
      if (broken_) return;
      next_ = progress;
      step = NextLocked();
    }
    Take(step);
  }
  // The last of the work: with what comes last where the status is OK. The call may be gone when it
  // returns.
  void End(std::optional<Message> last, const grpc::Status& status) ABSL_LOCKS_EXCLUDED(mutex_) {
    calls_->Answered(call_);
    Step step;
    {
      MutexLock lock(mutex_);
      next_ = std::move(last);
      if (broken_) next_.reset();
      status_ = status;
      step = NextLocked();
    }
    // Where there is no step another thread has the last one: nothing here is touched any more.
    Take(step);
  }

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_) {
    Step step;
    {
      MutexLock lock(mutex_);
      writing_ = false;
      broken_ = broken_ || !ok;
      if (broken_) next_.reset();
      step = NextLocked();
    }
    Take(step);
  }
  void OnCancel() override { cancelled_.store(true, std::memory_order_relaxed); }
  void OnDone() override {
    calls_->Ended(call_);
    delete this;
  }

 private:
  // What is to be begun; neither: nothing.
  struct Step {
    bool writes = false;
    std::optional<grpc::Status> ends = std::nullopt;
  };

  ~WorkingCall() override = default;

  Step NextLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_) return {};
    if (next_) {
      sent_ = *std::exchange(next_, std::nullopt);
      writing_ = true;
      return {.writes = true};
    }
    if (!status_) return {};
    return {.ends = std::exchange(status_, std::nullopt)};
  }
  // Without the lock: what gRPC has to say of it may come at once.
  void Take(const Step& step) {
    if (step.writes) {
      this->StartWrite(&sent_);  // gRPC's until OnWriteDone
    } else if (step.ends) {
      this->Finish(*step.ends);
    }
  }

  OpenCalls* const calls_;
  grpc_call* const call_;
  std::atomic<bool> cancelled_{false};
  Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;  // the client takes no more
  std::optional<Message> next_ ABSL_GUARDED_BY(mutex_);
  // From the end of the work until the call is ended with it.
  std::optional<grpc::Status> status_ ABSL_GUARDED_BY(mutex_);
  Message sent_;  // of the write under way: who set writing_ has it
};

}  // namespace engram
