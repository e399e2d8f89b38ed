// Hand-tuned gather loops to measure the store's against: one row width, one instruction set and
// one prefetch distance each, written with intrinsics and sharing no code with memstore/store/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace engram::bench {

// Copies rows base + ids[i] * row width, i < count, back to back to `out`.
using Loop = void (*)(const std::byte* base, const uint32_t* ids, size_t count, std::byte* out);

struct HandTunedLoop {
  std::string name;  // "avx512, 12 ahead"
  Loop run;
};

// Fixed-size AVX2 and, where the processor has it, AVX-512 copies x prefetch distances 4 to 64.
// Row widths are 160, 264 and 320 bytes; empty for any other, and where there is no AVX2.
std::vector<HandTunedLoop> HandTunedLoops(uint32_t row_bytes);

}  // namespace engram::bench
