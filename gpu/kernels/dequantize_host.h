// Dequantising on the host, a row at a time, by loops that the compiler turns into the vectors that
// the machine has. The same results as the kernel's, bit for bit. Cost: dequantize_benchmark.
#pragma once

#include <vector>

#include "gpu/kernels/dequantize_loop.h"

namespace engram {

// All places. False: a place's row is none of row_count; its values were left out.
using DequantizeRowsOnHost = bool (*)(const DequantizeArguments& arguments, const E4m3Table& table);

struct NamedDequantize {
  const char* name;
  DequantizeRowsOnHost run;
  bool supported;  // by this machine
};
// Fastest first; the last one runs everywhere.
std::vector<NamedDequantize> DequantizeVariants();
DequantizeRowsOnHost ChooseDequantize();

}  // namespace engram
