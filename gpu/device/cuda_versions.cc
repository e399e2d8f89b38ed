#include "absl/strings/str_cat.h"
#include "gpu/device/cuda_device.h"

namespace engram {
namespace {

std::string VersionName(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

}  // namespace

absl::Status CheckCudaVersions(int driver_version, int toolkit_version, int devices, int ordinal) {
  if (driver_version == 0) {
    return absl::NotFoundError("no CUDA driver on this machine: use the host backend");
  }
  // Within a major version any driver runs what any toolkit built.
  if (driver_version / 1000 < toolkit_version / 1000) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the CUDA driver is for ", VersionName(driver_version), ", this was built with ",
        VersionName(toolkit_version), ": update the driver, or build with an older toolkit"));
  }
  if (devices == 0) return absl::NotFoundError("no CUDA device: use the host backend");
  if (ordinal < 0 || ordinal >= devices) {
    return absl::NotFoundError(
        absl::StrCat("no CUDA device ", ordinal, ": there are ", devices, ", counted from 0"));
  }
  return absl::OkStatus();
}

}  // namespace engram
