#include "server/net/call_backlog.h"

#include <algorithm>
#include <vector>

#include "absl/time/time.h"
#include "memstore/base/mutex.h"

namespace engram {
namespace {

// A loop works off some hundred calls in as long.
constexpr absl::Duration kLookAgain = absl::Milliseconds(1);
// Then one read is let through: a loop that is held up by something else ends nobody's calls.
constexpr absl::Duration kMostWait = absl::Milliseconds(100);

std::atomic<uint64_t> calls_begun{0}, calls_taken{0};
// Whether this thread is a loop's.
thread_local bool takes_calls = false;

}  // namespace

// The loops that there are.
class CallBacklog {
 public:
  static CallBacklog& Get() {
    static auto* const backlog = new CallBacklog;
    return *backlog;
  }
  void Add(CallTaker* taker) {
    MutexLock lock(mutex_);
    takers_.push_back(taker);
  }
  void Remove(CallTaker* taker) {
    MutexLock lock(mutex_);
    takers_.erase(std::find(takers_.begin(), takers_.end(), taker));
  }
  // Since the loop that found nothing longest ago did. Others may have had some left then, which
  // are counted as taken since: so it is too little by those, until that loop finds nothing again.
  uint64_t Waiting() const {
    MutexLock lock(mutex_);
    if (takers_.empty()) return 0;
    const CallTaker* const first = *std::min_element(
        takers_.begin(), takers_.end(),
        [](const CallTaker* one, const CallTaker* other) { return one->begun_ < other->begun_; });
    const uint64_t taken = calls_taken.load() - first->taken_;
    const uint64_t begun = calls_begun.load() - first->begun_;
    return begun - std::min(begun, taken);
  }

 private:
  mutable Mutex mutex_;
  std::vector<CallTaker*> takers_ ABSL_GUARDED_BY(mutex_);
};

CallTaker::CallTaker() {
  takes_calls = true;
  FoundNothing();
  CallBacklog::Get().Add(this);
}

CallTaker::~CallTaker() {
  CallBacklog::Get().Remove(this);
  takes_calls = false;
}

void CallTaker::Took() { calls_taken.fetch_add(1, std::memory_order_relaxed); }

void CallTaker::FoundNothing() {
  taken_.store(calls_taken.load(std::memory_order_relaxed), std::memory_order_relaxed);
  begun_.store(calls_begun.load(std::memory_order_relaxed), std::memory_order_relaxed);
}

void CallsBegan(uint64_t calls) { calls_begun.fetch_add(calls, std::memory_order_relaxed); }

uint64_t CallsWaiting() { return CallBacklog::Get().Waiting(); }

void AwaitLoops(Clock& clock) {
  // The first comparison may be too much by calls that gRPC refused, and then asks for the loops.
  if (takes_calls ||
      calls_begun.load(std::memory_order_relaxed) - calls_taken.load(std::memory_order_relaxed) <
          CallTaker::kMostWaiting) {
    return;
  }
  if (CallsWaiting() < CallTaker::kMostWaiting) return;
  const MonotonicTime until = clock.After(kMostWait);
  while (CallsWaiting() >= CallTaker::kMostWaiting / 2 && clock.Now() < until) {
    clock.SleepFor(kLookAgain);
  }
}

}  // namespace engram
