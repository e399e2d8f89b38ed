// The CUDA backend of device.h, or why there is none. Contract: device.h.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "gpu/device/device.h"

namespace engram {

// UNIMPLEMENTED where this was built without a CUDA toolkit; NOT_FOUND and FAILED_PRECONDITION are
// CheckCudaVersions'.
absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice(const DeviceOptions& options);

// What can be said before anything is asked of a device. Versions are CUDA's, 1000 * major + 10 *
// minor; a driver of 0 is none. NOT_FOUND: no driver, no device, or no such one.
// FAILED_PRECONDITION: the driver is of an older major version than the toolkit this was built
// with.
absl::Status CheckCudaVersions(int driver_version, int toolkit_version, int devices, int ordinal);

}  // namespace engram
