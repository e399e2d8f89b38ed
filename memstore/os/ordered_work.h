// A run of numbered units of work, done by several threads in about their order.
//
// The first error ends it: no later unit is begun, every earlier one is completed, so the error
// that is returned is that of the lowest unit that fails, whatever the threads' timing. A thread
// that cannot be started, and a worker that finds no memory (std::bad_alloc), are such errors:
// RESOURCE_EXHAUSTED, the first of the run and of the worker's unit.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "memstore/base/mutex.h"

namespace engram {

// Called now and then with bytes done and in all, from one thread at a time. It may not throw.
using ProgressFunction = std::function<void(uint64_t done, uint64_t total)>;

// Adds up what threads have done and passes it on. Thread-safe; an Add never waits for another.
class ProgressCount {
 public:
  ProgressCount(uint64_t total, ProgressFunction report)
      : total_(total), report_(std::move(report)) {}
  void Add(uint64_t done);

 private:
  const uint64_t total_;
  const ProgressFunction report_;  // may be empty
  std::atomic<uint64_t> done_{0};
  Mutex reporting_;  // held while report_ runs
};

// A worker does units, one after the other; its buffers are its own.
using Worker = std::function<absl::Status(uint64_t unit)>;
// Makes one worker a thread; called by that thread.
using WorkerFactory = std::function<Worker()>;

// The most threads that packing or verifying uses: with direct I/O a few keep a device busy, and
// each has buffers of its own (kTargetUnitBytes in table_set_writer.h).
inline constexpr uint32_t kMaxTableThreads = 8;
// `asked`, or for 0 twice the cores (half of them wait for the device), at most kMaxTableThreads.
uint32_t ChooseTableThreads(uint32_t asked);

// Does units 0..units-1; returns OK or the lowest failing unit's status.
absl::Status DoInOrder(uint64_t units, uint32_t threads, const WorkerFactory& factory);

}  // namespace engram
