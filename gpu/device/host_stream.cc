#include "gpu/device/host_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gpu/device/host_device.h"
#include "gpu/device/word_wait.h"
#include "memstore/base/clock.h"
#include "memstore/os/futex.h"
#include "memstore/os/thread.h"

namespace engram {

// What was captured: operations, run one after another.
class HostStream::Captured : public Graph {
 public:
  std::vector<Operation> operations;
};

absl::Status HostEvent::Wait(MonotonicTime deadline) {
  const uint32_t wanted = recorded_.load(std::memory_order_acquire);
  for (;;) {
    const uint32_t seen = passed_.load(std::memory_order_acquire);
    if (WordPasses(seen, WordTest::kAtLeast, wanted)) return absl::OkStatus();
    const absl::Duration left = deadline - RealClock().Now();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError("the stream has not come to the event yet");
    }
    FutexWait(passed_, seen, std::min(left, kWordLookAgain));
  }
}

absl::StatusOr<std::unique_ptr<Stream>> HostStream::Start(const std::string& name,
                                                          absl::Duration spin) {
  std::unique_ptr<HostStream> stream(new HostStream(spin));
  absl::StatusOr<std::thread> thread = StartThread(name, [raw = stream.get()] { raw->Run(); });
  if (!thread.ok()) return thread.status();
  stream->thread_ = *std::move(thread);
  return std::unique_ptr<Stream>(std::move(stream));
}

HostStream::HostStream(absl::Duration spin) : spin_(spin), operations_(kHostStreamOperations) {}

HostStream::~HostStream() {
  {
    MutexLock lock(mutex_);
    ending_ = true;
  }
  work_there_.NotifyOne();
  if (thread_.joinable()) thread_.join();
}

void HostStream::Run() {
  MutexLock lock(mutex_);
  for (;;) {
    while (!ending_ && done_ == queued_) work_there_.Wait(mutex_);
    if (done_ == queued_) return;
    const Operation& operation = operations_[done_ % operations_.size()];
    lock.Unlock();
    operation.run(operation.arguments);
    lock.Lock();
    if (++done_ == queued_) caught_up_.NotifyAll();
  }
}

absl::Status HostStream::EnqueueKernel(void (*run)(const void*), const void* kernel, size_t bytes) {
  if (capture_ != nullptr) {
    Operation& operation = capture_->operations.emplace_back();
    operation.run = run;
    std::memcpy(operation.arguments, kernel, bytes);
    return absl::OkStatus();
  }
  {
    MutexLock lock(mutex_);
    if (queued_ - done_ == operations_.size()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the stream holds ", operations_.size(),
                       " operations that have not run: synchronize before enqueuing more"));
    }
    Operation& operation = operations_[queued_++ % operations_.size()];
    operation.run = run;
    std::memcpy(operation.arguments, kernel, bytes);
  }
  work_there_.NotifyOne();
  return absl::OkStatus();
}

template <typename Callable>
absl::Status HostStream::Enqueue(const Callable& callable) {
  return LaunchOnHost(callable);
}

absl::Status HostStream::Copy(void* to, const void* from, size_t bytes) {
  return Enqueue([to, from, bytes] {
    if (bytes > 0) std::memcpy(to, from, bytes);
  });
}

absl::Status HostStream::WaitWord(const std::atomic<uint32_t>* word, WordTest test,
                                  uint32_t value) {
  return Enqueue([word, test, value, spin = spin_ / absl::Nanoseconds(1)] {
    AwaitWord(*word, test, value, absl::Nanoseconds(spin));
  });
}

absl::Status HostStream::Record(Event& event) {
  if (capturing()) return absl::UnimplementedError("events cannot be captured");
  auto* const recorded = static_cast<HostEvent*>(&event);
  const uint32_t number = recorded->recorded_.load(std::memory_order_relaxed) + 1;
  absl::Status status = Enqueue([recorded, number] {
    recorded->passed_.store(number, std::memory_order_release);
    FutexWakeAll(recorded->passed_);
  });
  if (status.ok()) recorded->recorded_.store(number, std::memory_order_release);
  return status;
}

absl::Status HostStream::WaitEvent(Event& event) {
  if (capturing()) return absl::UnimplementedError("events cannot be captured");
  auto* const awaited = static_cast<HostEvent*>(&event);
  const uint32_t number = awaited->recorded_.load(std::memory_order_acquire);
  return WaitWord(&awaited->passed_, WordTest::kAtLeast, number);
}

absl::Status HostStream::CallHost(void (*function)(void*), void* argument) {
  return Enqueue([function, argument] { function(argument); });
}

absl::Status HostStream::Synchronize() {
  if (capturing()) return absl::FailedPreconditionError("the stream is capturing");
  MutexLock lock(mutex_);
  while (done_ != queued_) caught_up_.Wait(mutex_);
  return absl::OkStatus();
}

absl::Status HostStream::BeginCapture() {
  if (capturing()) return absl::FailedPreconditionError("the stream is capturing already");
  capture_ = std::make_unique<Captured>();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Graph>> HostStream::EndCapture() {
  if (!capturing()) return absl::FailedPreconditionError("the stream is not capturing");
  return std::unique_ptr<Graph>(std::move(capture_));
}

absl::Status HostStream::Launch(Graph& graph) {
  const auto* const captured = static_cast<const Captured*>(&graph);
  return Enqueue([captured] {
    for (const Operation& operation : captured->operations) operation.run(operation.arguments);
  });
}

}  // namespace engram
