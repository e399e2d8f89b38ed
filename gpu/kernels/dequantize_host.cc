#include "gpu/kernels/dequantize_host.h"

#include <cstring>

namespace engram {
namespace {

// Inlined into one function for each instruction set, which is what vectorises it.
// Indices have the width of addresses: narrower ones might wrap, and would be taken for a gather.
#define ENGRAM_ROW_LOOP inline __attribute__((always_inline))

ENGRAM_ROW_LOOP void RowOfE4m3Ue8m0(const DequantizeArguments& a, const uint8_t* row,
                                    uint16_t* __restrict out) {
  for (size_t first = 0; first < a.dim; first += kValuesAScale) {
    const uint8_t scale_byte = row[a.dim + first / kValuesAScale];
    const uint8_t* const in = row + first;
    if (IsPlainScale(scale_byte)) {
      const float scale = PlainScale(scale_byte);
#pragma GCC ivdep
      for (size_t i = 0; i < kValuesAScale; ++i) {
        out[first + i] = Bf16OfE4m3Plain(in[i], scale);
      }
    } else {
      for (size_t i = 0; i < kValuesAScale; ++i) {
        out[first + i] = Bf16OfE4m3Careful(in[i], scale_byte, a.reading);
      }
    }
  }
}

ENGRAM_ROW_LOOP void RowOf(const DequantizeArguments& a, const E4m3Table& table,
                           const std::byte* row, uint16_t* __restrict out) {
  const auto* const bytes = reinterpret_cast<const uint8_t*>(row);
  switch (a.values) {
    case RowValues::kBf16:
      std::memcpy(out, row, size_t{2} * a.dim);
      return;
    case RowValues::kFp16:
#pragma GCC ivdep
      for (size_t i = 0; i < a.dim; ++i) {
        uint16_t bits;
        std::memcpy(&bits, row + 2 * i, sizeof bits);
        out[i] = Bf16OfFp16Bits(bits);
      }
      return;
    case RowValues::kFp32:
#pragma GCC ivdep
      for (size_t i = 0; i < a.dim; ++i) {
        uint32_t bits;
        std::memcpy(&bits, row + 4 * i, sizeof bits);
        out[i] = Bf16OfFloatBits(bits);
      }
      return;
    case RowValues::kE4m3:
      for (size_t i = 0; i < a.dim; ++i) out[i] = table.bf16[bytes[i]];
      return;
    case RowValues::kE4m3Ue8m0:
      RowOfE4m3Ue8m0(a, bytes, out);
      return;
  }
}

ENGRAM_ROW_LOOP bool AllRows(const DequantizeArguments& a, const E4m3Table& table) {
  bool all_good = true;
  uint32_t place = 0;
  for (uint16_t* token = a.out; place < a.places; token += a.token_stride) {
    for (uint32_t column = 0; column < a.columns && place < a.places; ++column, ++place) {
      const uint32_t row = a.inverse == nullptr ? place : a.inverse[place];
      if (row >= a.row_count) {
        all_good = false;
        continue;
      }
      RowOf(a, table, a.rows + uint64_t{row} * a.row_bytes, token + uint64_t{column} * a.dim);
    }
  }
  return all_good;
}

bool AllRowsBaseline(const DequantizeArguments& a, const E4m3Table& table) {
  return AllRows(a, table);
}
__attribute__((target("avx2"))) bool AllRowsAvx2(const DequantizeArguments& a,
                                                 const E4m3Table& table) {
  return AllRows(a, table);
}
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) bool AllRowsAvx512(
    const DequantizeArguments& a, const E4m3Table& table) {
  return AllRows(a, table);
}

}  // namespace

std::vector<NamedDequantize> DequantizeVariants() {
  return {{"avx512", AllRowsAvx512,
           __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")},
          {"avx2", AllRowsAvx2, __builtin_cpu_supports("avx2") != 0},
          {"baseline", AllRowsBaseline, true}};
}

DequantizeRowsOnHost ChooseDequantize() {
  for (const NamedDequantize& variant : DequantizeVariants()) {
    if (variant.supported) return variant.run;
  }
  return AllRowsBaseline;
}

}  // namespace engram
