#include "gpu/device/device.h"

#include "gpu/device/cuda_device.h"
#include "gpu/device/host_device.h"

namespace engram {

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& from) noexcept {
  if (this == &from) return *this;
  Free();
  device_ = std::exchange(from.device_, nullptr);
  kind_ = from.kind_;
  data_ = std::exchange(from.data_, nullptr);
  size_ = std::exchange(from.size_, 0);
  return *this;
}

void DeviceBuffer::Free() {
  if (device_ != nullptr) device_->Free(kind_, data_, size_);
  device_ = nullptr;
}

absl::StatusOr<std::unique_ptr<Device>> OpenDevice(DeviceKind kind, const DeviceOptions& options) {
  if (kind == DeviceKind::kCuda) return OpenCudaDevice(options);
  return std::unique_ptr<Device>(new HostDevice(options));
}

}  // namespace engram
