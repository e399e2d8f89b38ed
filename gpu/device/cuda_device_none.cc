// Takes the place of cuda_device.cc where there is no CUDA toolkit.
#include "gpu/device/cuda_device.h"

namespace engram {

absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice(const DeviceOptions&) {
  return absl::UnimplementedError(
      "built without a CUDA toolkit: use the host backend, or build where nvcc is");
}

}  // namespace engram
