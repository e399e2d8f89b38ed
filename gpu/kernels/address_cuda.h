// The CUDA kernels of device_addresser.h.
#pragma once

#include "gpu/kernels/address_loop.h"

namespace engram {

// Launch them on a cudaStream_t; batches are not empty. "" or the device's error.
//
// rows: [layers][tokens][the layer's columns]. `error` grows to the batch's error word.
const char* LaunchAddress(const AddressTables& tables, const AddressTokens& batch, uint64_t* rows,
                          uint64_t* error, uint32_t multiprocessors, void* stream);
// `accepted`: [sequences], or null: all tokens. `lookback`: [sequences][order - 1].
const char* LaunchAdvance(const AddressTables& tables, const AddressTokens& batch,
                          const uint32_t* accepted, uint32_t* lookback, uint64_t* error,
                          void* stream);

}  // namespace engram
