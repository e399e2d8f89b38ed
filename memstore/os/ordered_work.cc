#include "memstore/os/ordered_work.h"

#include <algorithm>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "memstore/os/thread.h"

namespace engram {
namespace {

struct Shared {
  std::atomic<uint64_t> next{0};
  std::atomic<uint64_t> end;  // units from here on are not begun
  Mutex mutex;
  absl::Status error ABSL_GUARDED_BY(mutex);  // of unit `end`, once there is one
};

// `unit` failed: nothing from it on is to be done.
void Fail(Shared& shared, uint64_t unit, absl::Status status) {
  MutexLock lock(shared.mutex);
  if (unit >= shared.end.load()) return;
  shared.end.store(unit);
  shared.error = std::move(status);
}

void Work(Shared& shared, const WorkerFactory& factory) {
  uint64_t unit = 0;  // without a worker there is no unit to do
  try {
    const Worker worker = factory();
    for (;;) {
      unit = shared.next.fetch_add(1);
      if (unit >= shared.end.load()) return;
      absl::Status status = worker(unit);
      if (!status.ok()) Fail(shared, unit, std::move(status));
    }
  } catch (const std::bad_alloc&) {
    Fail(shared, unit,
         absl::ResourceExhaustedError(
             "there is no memory for a thread's buffers: free some, or use fewer threads"));
  }
}

}  // namespace

void ProgressCount::Add(uint64_t done) {
  const uint64_t sum = done_.fetch_add(done) + done;
  if (!report_) return;
  // The last one must be told; of the others one that meets a busy reporter is left out.
  if (sum == total_) {
    reporting_.Lock();
  } else if (!reporting_.TryLock()) {
    return;
  }
  report_(done_.load(), total_);
  reporting_.Unlock();
}

uint32_t ChooseTableThreads(uint32_t asked) {
  if (asked == 0) asked = 2 * std::max(1u, std::thread::hardware_concurrency());
  return std::min(asked, kMaxTableThreads);
}

absl::Status DoInOrder(uint64_t units, uint32_t threads, const WorkerFactory& factory) {
  Shared shared;
  shared.end = units;
  const uint64_t count = std::min<uint64_t>(std::max(1u, threads), units);
  std::vector<std::thread> others;
  others.reserve(count);
  for (uint64_t i = 1; i < count; ++i) {
    absl::StatusOr<std::thread> thread =
        StartThread(absl::StrCat("table/", i), [&shared, &factory] { Work(shared, factory); });
    if (!thread.ok()) {
      Fail(shared, 0, thread.status());
      break;
    }
    others.push_back(*std::move(thread));
  }
  if (units > 0) Work(shared, factory);
  for (std::thread& thread : others) thread.join();
  MutexLock lock(shared.mutex);
  return shared.error;
}

}  // namespace engram
