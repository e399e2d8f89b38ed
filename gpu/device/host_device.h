// The host backend of device.h: a stream is a named thread that runs what is queued, device memory
// is the process's, a kernel is a callable. Contract: device.h.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "gpu/device/device.h"

namespace engram {

// Operations that one stream holds at once: what CUDA's own queues hold. Beyond it
// RESOURCE_EXHAUSTED.
inline constexpr size_t kHostStreamOperations = 1024;

class HostDevice : public Device {
 public:
  explicit HostDevice(const DeviceOptions& options) : options_(options) {}

  DeviceKind kind() const override { return DeviceKind::kHost; }
  std::string Describe() const override { return "the host's processors"; }
  uint32_t multiprocessors() const override { return 1; }
  bool host_writes_device_memory() const override { return !options_.separate_memory; }
  absl::StatusOr<DeviceBuffer> Allocate(MemoryKind kind, size_t bytes) override;
  absl::StatusOr<std::unique_ptr<Stream>> MakeStream(const std::string& name) override;
  absl::StatusOr<std::unique_ptr<Stream>> BorrowStream(void* native) override;
  absl::StatusOr<std::unique_ptr<Event>> MakeEvent() override;
  absl::StatusOr<std::unique_ptr<RegisteredMemory>> Register(
      absl::Span<const std::byte> memory) override;
  void WordChanged(const std::atomic<uint32_t>& word) override;

 private:
  void Free(MemoryKind kind, std::byte* data, size_t bytes) override;

  const DeviceOptions options_;
  std::atomic<uint64_t> used_bytes_{0};  // of kDevice memory
};

}  // namespace engram
