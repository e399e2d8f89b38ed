// The accelerator as the worker side sees it: memory, streams (ordered queues of work), events.
// One interface, two backends: CUDA, and the host, on which a stream is a named thread with a
// bounded queue and device memory is memory.
//
// Every method of a Stream but Synchronize only enqueues: it returns before the work is done and
// never waits for the device. What is enqueued runs in order; two streams meet through events and
// words. A Device outlives what it made. Thread safety: a Device's methods may be called from any
// thread, a Stream is used by one thread at a time, an Event by one that records and any that wait.
// Errors: NOT_FOUND, no such device; FAILED_PRECONDITION, a driver older than the toolkit;
// RESOURCE_EXHAUSTED, memory, or a host stream's queue, is full; INTERNAL, the device's own error.
// Nothing allocates after what is made here was made, capturing a graph excepted.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "memstore/base/clock.h"

namespace engram {

// What a host backend's kernel may hold: its arguments by value, pointers to the rest.
inline constexpr size_t kMaxHostKernelBytes = 240;

enum class DeviceKind { kHost, kCuda };
// kPinnedHost is read and written by both sides, at one address; words that streams wait for lie
// there.
enum class MemoryKind { kDevice, kPinnedHost };

class Device;

// Memory of a device, freed when it goes; no stream may be using it then.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(Device* device, MemoryKind kind, std::byte* data, size_t size)
      : device_(device), kind_(kind), data_(data), size_(size) {}
  DeviceBuffer(DeviceBuffer&& from) noexcept { *this = std::move(from); }
  DeviceBuffer& operator=(DeviceBuffer&& from) noexcept;
  ~DeviceBuffer() { Free(); }

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  void Free();

  Device* device_ = nullptr;
  MemoryKind kind_ = MemoryKind::kDevice;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// A point in a stream. Not recorded yet counts as passed.
class Event {
 public:
  virtual ~Event() = default;
  // Blocks the calling thread until the point last recorded has passed: DEADLINE_EXCEEDED when it
  // has not by `deadline`. For threads that are there to wait; an engine's own never calls it.
  virtual absl::Status Wait(MonotonicTime deadline) = 0;
};

// What a stream captured, to be launched again and again.
class Graph {
 public:
  virtual ~Graph() = default;
};

enum class WordTest {
  kAtLeast,  // int32(word - value) >= 0
  kAnyBit,   // (word & value) != 0
};

class Stream {
 public:
  virtual ~Stream() = default;  // waits for what is queued, unless it is borrowed

  // Memory of either kind, both ways. `from` and `to` stay until it was done.
  virtual absl::Status Copy(void* to, const void* from, size_t bytes) = 0;
  // What follows waits until the word, in pinned memory, passes the test; nobody else waits. Who
  // changes the word calls Device::WordChanged.
  virtual absl::Status WaitWord(const std::atomic<uint32_t>* word, WordTest test,
                                uint32_t value) = 0;
  virtual absl::Status Record(Event& event) = 0;
  virtual absl::Status WaitEvent(Event& event) = 0;
  // Runs function(argument) on a thread of the device's, which must not wait or call the device.
  virtual absl::Status CallHost(void (*function)(void*), void* argument) = 0;
  // Blocks the caller until all that was enqueued is done; the device's error if it had one.
  virtual absl::Status Synchronize() = 0;

  // Between the two, what is enqueued is not run but kept. Copy, WaitWord, CallHost and kernels
  // can be captured. A graph is launched from any stream of its device, and outlives its launches.
  virtual absl::Status BeginCapture() = 0;
  virtual absl::StatusOr<std::unique_ptr<Graph>> EndCapture() = 0;
  virtual bool capturing() const = 0;
  virtual absl::Status Launch(Graph& graph) = 0;

  // cudaStream_t, for kernels; null on the host backend.
  virtual void* native() const = 0;
  // A kernel of the host backend: a trivially copyable callable, copied into the queue.
  // UNIMPLEMENTED on CUDA.
  template <typename Kernel>
  absl::Status LaunchOnHost(const Kernel& kernel) {
    static_assert(std::is_trivially_copyable_v<Kernel> && sizeof(Kernel) <= kMaxHostKernelBytes);
    return EnqueueKernel([](const void* copy) { (*static_cast<const Kernel*>(copy))(); }, &kernel,
                         sizeof(Kernel));
  }

 protected:
  virtual absl::Status EnqueueKernel(void (*run)(const void*), const void* kernel,
                                     size_t bytes) = 0;
};

// Host memory of the caller's that the device may read; undone when it goes.
class RegisteredMemory {
 public:
  virtual ~RegisteredMemory() = default;
  virtual const std::byte* on_device() const = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  virtual DeviceKind kind() const = 0;
  virtual std::string Describe() const = 0;
  virtual uint32_t multiprocessors() const = 0;  // 1 on the host backend
  // Whether the host may write device memory in place: rows then land where the layer reads them.
  virtual bool host_writes_device_memory() const = 0;

  // Aligned to 256 bytes, zeroed. RESOURCE_EXHAUSTED says how much there was.
  virtual absl::StatusOr<DeviceBuffer> Allocate(MemoryKind kind, size_t bytes) = 0;
  // `name`: of the host backend's thread (15 characters are kept). Not on a step's way.
  virtual absl::StatusOr<std::unique_ptr<Stream>> MakeStream(const std::string& name) = 0;
  // A stream that an engine made, cudaStream_t, which stays the engine's and outlives what this
  // returns. UNIMPLEMENTED on the host backend.
  virtual absl::StatusOr<std::unique_ptr<Stream>> BorrowStream(void* native) = 0;
  virtual absl::StatusOr<std::unique_ptr<Event>> MakeEvent() = 0;
  // Makes mapped memory readable by kernels. UNIMPLEMENTED: this device cannot read memory that is
  // mapped read-only.
  virtual absl::StatusOr<std::unique_ptr<RegisteredMemory>> Register(
      absl::Span<const std::byte> memory) = 0;
  // Tells streams that wait for the word to look again; costs nothing where they look by
  // themselves.
  virtual void WordChanged(const std::atomic<uint32_t>& word) = 0;

 private:
  friend class DeviceBuffer;
  virtual void Free(MemoryKind kind, std::byte* data, size_t bytes) = 0;
};

struct DeviceOptions {
  int ordinal = 0;                  // CUDA: which device
  uint64_t memory_limit_bytes = 0;  // host: of kDevice memory; 0 is none
  bool separate_memory = false;     // host: device memory is not to be written by the host
  absl::Duration spin = absl::Microseconds(200);  // host: before a stream that waits sleeps
};

absl::StatusOr<std::unique_ptr<Device>> OpenDevice(DeviceKind kind, const DeviceOptions& options);

}  // namespace engram
