// Takes the place of address.cu where there is no CUDA toolkit.
#include "gpu/kernels/address_cuda.h"

namespace engram {

const char* LaunchAddress(const AddressTables&, const AddressTokens&, uint64_t*, uint64_t*,
                          uint32_t, void*) {
  return "built without a CUDA toolkit";
}

const char* LaunchAdvance(const AddressTables&, const AddressTokens&, const uint32_t*, uint32_t*,
                          uint64_t*, void*) {
  return "built without a CUDA toolkit";
}

}  // namespace engram
