// Runs the shared n-gram hash header on a CUDA device, a window an index, so that a test can hold
// it against the host's results. The worker's address kernel will call the same functions.
#pragma once

#include <cstdint>
#include <string>

namespace engram {

// row[i] = Modulo(XorMix(window i, multipliers, order), reciprocal of modulus) + offset, for
// `count` windows of `order` ids each. Host pointers; copies both ways, blocks. Returns "" when
// done, else why it could not be: no CUDA toolkit when this was built, no device, or the device's
// error.
std::string HashOnDevice(const uint32_t* windows, uint64_t count, uint32_t order,
                         const uint64_t* multipliers, uint64_t modulus, uint64_t offset,
                         uint64_t* rows);

// Whether a device can be used here; "" or the reason why not.
std::string DeviceUnavailableReason();

}  // namespace engram
