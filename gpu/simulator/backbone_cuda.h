// The kernels between cuBLAS's products, and the clock. "" when launched, else why not.
#pragma once

#include <cstdint>

namespace engram::simulator {

// Memory of a block's step, bf16.
struct BlockMemory {
  uint16_t* hidden = nullptr;  // [tokens][hidden]
  uint16_t* wide = nullptr;    // [tokens][query + 2 key_value], then [tokens][2 feed_forward]
  uint16_t* middle = nullptr;  // [tokens][feed_forward]
  uint16_t* change = nullptr;  // [tokens][hidden]
};

const char* LaunchFirstHidden(uint16_t* hidden, uint32_t tokens, uint32_t width, void* stream);
const char* LaunchAdd(const BlockMemory& memory, uint64_t values, void* stream);
const char* LaunchGated(const BlockMemory& memory, uint32_t tokens, uint32_t feed_forward,
                        void* stream);
const char* LaunchStamp(int64_t* at, void* stream);

}  // namespace engram::simulator
