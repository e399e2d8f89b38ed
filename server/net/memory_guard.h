// Memory that clients make engramd take, beside what it counts itself: looked at, and bounded.
//
// Slabs, ids and answers are counted where they are taken. Of a request that is not whole gRPC
// alone knows how much it keeps, in buffers that may be many times as large as what came in them;
// its own quota refuses nothing, it stalls everybody. So what counts is what the heap holds. It is
// measured while the process grows: the resident size is looked at all the time, which costs next
// to nothing, the heap itself (up to a millisecond) only where it may hold too much.
//
// MemoryBound decides, and belongs to one thread. MemoryGuard is that thread, "memory".
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram {

struct HeapUse {
  uint64_t used = 0;
  uint64_t free = 0;  // kept for what is taken next
};

// Where nothing limits it.
inline constexpr uint64_t kUnlimitedAddressSpace = UINT64_MAX;

struct MemoryProbes {
  std::function<uint64_t()> resident_bytes;  // of the process, tables and all; 0: not known
  // What the process may still map (ulimit -v), or kUnlimitedAddressSpace.
  std::function<uint64_t()> address_space_left = [] { return kUnlimitedAddressSpace; };
  std::function<HeapUse()> heap;
  std::function<void()> trim;  // gives what is free back to the system
};
// This process's own.
MemoryProbes ProcessMemory();

class MemoryBound {
 public:
  // From what the heap holds now it may grow by `most_bytes`.
  MemoryBound(uint64_t most_bytes, MemoryProbes probes);

  // By how much it has grown too far, with a quarter of what it may, so that there is room after;
  // 0: it has not. Where the process may map little more, and what the heap has free is little as
  // well, that quarter: threads and the heap's own pieces take address space that no call is seen
  // to hold.
  uint64_t Excess(MonotonicTime now);
  uint64_t most_bytes() const { return most_bytes_; }

 private:
  const uint64_t most_bytes_;
  const MemoryProbes probes_;
  const uint64_t first_used_;
  // Where the resident size stays between these the heap can't have grown too far.
  uint64_t least_resident_ = 0, most_resident_ = 0;
  MonotonicTime next_trim_;
};

class MemoryGuard {
 public:
  // `make_room` is called on the guard's thread with each Excess that is not 0, and `look` after
  // each interval. `clock` outlives it.
  static absl::StatusOr<std::unique_ptr<MemoryGuard>> Start(
      MemoryBound bound, std::function<void(uint64_t bytes)> make_room,
      std::chrono::milliseconds interval, Clock* clock, std::function<void()> look = [] {});
  // Ends the thread.
  ~MemoryGuard();
  MemoryGuard(const MemoryGuard&) = delete;
  MemoryGuard& operator=(const MemoryGuard&) = delete;

 private:
  MemoryGuard(MemoryBound bound, std::function<void(uint64_t bytes)> make_room,
              std::chrono::milliseconds interval, Clock* clock, std::function<void()> look)
      : bound_(std::move(bound)),
        make_room_(std::move(make_room)),
        look_(std::move(look)),
        interval_(interval),
        clock_(clock) {}
  void Run();

  MemoryBound bound_;  // the thread's
  const std::function<void(uint64_t bytes)> make_room_;
  const std::function<void()> look_;
  const std::chrono::milliseconds interval_;
  Clock* const clock_;
  Mutex mutex_;
  CondVar changed_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// How much the heap may grow for clients: kCallMemoryBytes, or, where the process may take less
// address space than twice that (ulimit -v), half of what it may.
uint64_t CallMemoryBytes();
// The same of what is left of the address space.
uint64_t CallMemoryBytes(uint64_t address_space_left);

}  // namespace engram
