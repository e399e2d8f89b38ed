#include "gpu/device/host_device.h"

#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "gpu/device/host_stream.h"
#include "memstore/os/futex.h"

namespace engram {
namespace {

constexpr size_t kAlignment = 256;  // as cudaMalloc's

class InPlace : public RegisteredMemory {
 public:
  explicit InPlace(const std::byte* memory) : memory_(memory) {}
  const std::byte* on_device() const override { return memory_; }

 private:
  const std::byte* const memory_;
};

}  // namespace

absl::StatusOr<DeviceBuffer> HostDevice::Allocate(MemoryKind kind, size_t bytes) {
  const bool counts = kind == MemoryKind::kDevice;
  const uint64_t used = counts ? used_bytes_.fetch_add(bytes) : 0;
  const uint64_t limit = options_.memory_limit_bytes;
  void* memory = nullptr;
  if (!counts || limit == 0 || used + bytes <= limit) {
    memory = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  }
  if (memory == nullptr) {
    if (counts) used_bytes_.fetch_sub(bytes);
    return absl::ResourceExhaustedError(absl::StrCat(
        bytes, " bytes of ", counts ? "device" : "pinned", " memory are not to be had: ", used,
        " are in use", limit == 0 ? "" : absl::StrCat(" of ", limit)));
  }
  std::memset(memory, 0, bytes);
  return DeviceBuffer(this, kind, static_cast<std::byte*>(memory), bytes);
}

void HostDevice::Free(MemoryKind kind, std::byte* data, size_t bytes) {
  std::free(data);
  if (kind == MemoryKind::kDevice) used_bytes_.fetch_sub(bytes);
}

absl::StatusOr<std::unique_ptr<Stream>> HostDevice::MakeStream(const std::string& name) {
  return HostStream::Start(name, options_.spin);
}

absl::StatusOr<std::unique_ptr<Stream>> HostDevice::BorrowStream(void*) {
  return absl::UnimplementedError("the host backend's streams are its own: use MakeStream");
}

absl::StatusOr<std::unique_ptr<Event>> HostDevice::MakeEvent() {
  return std::unique_ptr<Event>(new HostEvent());
}

absl::StatusOr<std::unique_ptr<RegisteredMemory>> HostDevice::Register(
    absl::Span<const std::byte> memory) {
  return std::unique_ptr<RegisteredMemory>(new InPlace(memory.data()));
}

void HostDevice::WordChanged(const std::atomic<uint32_t>& word) { FutexWakeAll(word); }

}  // namespace engram
