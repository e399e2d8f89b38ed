// Takes the place of hash_on_device.cu where there is no CUDA toolkit.
#include "gpu/hash_on_device.h"

namespace engram {

std::string DeviceUnavailableReason() { return "built without a CUDA toolkit"; }

std::string HashOnDevice(const uint32_t*, uint64_t, uint32_t, const uint64_t*, uint64_t, uint64_t,
                         uint64_t*) {
  return DeviceUnavailableReason();
}

}  // namespace engram
