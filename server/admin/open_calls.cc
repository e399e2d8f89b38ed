#include "server/admin/open_calls.h"

#include <grpc/grpc.h>

namespace engram {

void OpenCalls::Answered(grpc_call* call) {
  grpc_call* oldest = nullptr;
  {
    MutexLock lock(mutex_);
    waiting_.push_back(call);
    if (waiting_.size() <= kMost) return;
    oldest = waiting_.front();
    waiting_.pop_front();
    // It may end, and go, as soon as the lock is given back.
    grpc_call_ref(oldest);
  }
  grpc_call_cancel(oldest, nullptr);
  grpc_call_unref(oldest);
}

void OpenCalls::Ended(grpc_call* call) {
  MutexLock lock(mutex_);
  waiting_.remove(call);
}

}  // namespace engram
