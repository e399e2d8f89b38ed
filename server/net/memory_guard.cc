#include "server/net/memory_guard.h"

#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include "memstore/base/status_macros.h"
#include "memstore/os/process_memory.h"
#include "memstore/os/thread.h"
#include "server/base/limits.h"

namespace engram {
namespace {

// Giving memory back holds up whoever takes some just then, for milliseconds.
constexpr absl::Duration kTrimInterval = absl::Seconds(30);

uint64_t AddressSpaceLeft() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return kUnlimitedAddressSpace;
  }
  return limit.rlim_cur - std::min(limit.rlim_cur, ReadProcessMemory().virtual_bytes);
}

}  // namespace

MemoryProbes ProcessMemory() {
  return {.resident_bytes = [] { return ReadProcessMemory().resident_bytes; },
          .address_space_left = &AddressSpaceLeft,
          .heap =
              [] {
                const struct mallinfo2 info = mallinfo2();
                return HeapUse{.used = info.uordblks + info.hblkhd, .free = info.fordblks};
              },
          .trim = [] { malloc_trim(0); }};
}

MemoryBound::MemoryBound(uint64_t most_bytes, MemoryProbes probes)
    : most_bytes_(most_bytes), probes_(std::move(probes)), first_used_(probes_.heap().used) {}

uint64_t MemoryBound::Excess(MonotonicTime now) {
  if (const uint64_t left = probes_.address_space_left(); left < most_bytes_ / 2) {
    if (left + probes_.heap().free < most_bytes_ / 4) return most_bytes_ / 4;
  }
  const uint64_t resident = probes_.resident_bytes();
  if (resident >= least_resident_ && resident < most_resident_) return 0;
  const HeapUse heap = probes_.heap();
  const uint64_t grown = heap.used - std::min(heap.used, first_used_);
  if (grown > most_bytes_) return grown - most_bytes_ + most_bytes_ / 4;
  // What is free may be used without the process growing.
  const uint64_t may_hold = grown + heap.free;
  // Where the resident size is not known (0) it bounds nothing: the heap is looked at each time.
  if (resident > 0 && may_hold <= most_bytes_ / 4 * 3) {
    least_resident_ = resident - std::min(resident, most_bytes_ / 8);
    most_resident_ = resident + (most_bytes_ - may_hold) / 2;
  } else if (may_hold > most_bytes_ / 4 * 3 && grown < most_bytes_ / 2 && now >= next_trim_) {
    probes_.trim();
    next_trim_ = now + kTrimInterval;
  }
  return 0;
}

absl::StatusOr<std::unique_ptr<MemoryGuard>> MemoryGuard::Start(
    MemoryBound bound, std::function<void(uint64_t bytes)> make_room,
    std::chrono::milliseconds interval, Clock* clock, std::function<void()> look) {
  std::unique_ptr<MemoryGuard> guard(
      new MemoryGuard(std::move(bound), std::move(make_room), interval, clock, std::move(look)));
  ENGRAM_ASSIGN_OR_RETURN(guard->thread_,
                          StartThread("memory", [one = guard.get()] { one->Run(); }));
  return guard;
}

MemoryGuard::~MemoryGuard() {
  if (!thread_.joinable()) return;
  {
    MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void MemoryGuard::Run() {
  MutexLock lock(mutex_);
  while (!stop_) {
    const MonotonicTime next = clock_->After(absl::FromChrono(interval_));
    while (!stop_ && clock_->WaitUntil(changed_, mutex_, next)) {
    }
    if (stop_) return;
    lock.Unlock();
    if (const uint64_t bytes = bound_.Excess(clock_->Now()); bytes > 0) make_room_(bytes);
    look_();
    lock.Lock();
  }
}

uint64_t CallMemoryBytes(uint64_t address_space_left) {
  return std::min(kCallMemoryBytes, address_space_left / 2);
}

uint64_t CallMemoryBytes() { return CallMemoryBytes(AddressSpaceLeft()); }

}  // namespace engram
