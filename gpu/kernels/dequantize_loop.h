// The dequantising kernel, piece by piece: eight values of one place, for host and device alike.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu/kernels/bf16_values.h"

#ifdef __CUDACC__
#define ENGRAM_LOOP_FUNCTION __host__ __device__ __forceinline__
#else
#define ENGRAM_LOOP_FUNCTION inline
#endif

namespace engram {

// How a table holds a row's values; RowEncodingKind without what CUDA code must not include.
enum class RowValues : uint8_t { kBf16, kFp16, kFp32, kE4m3, kE4m3Ue8m0 };

// Values that a thread turns at once: their bf16 are the widest store.
inline constexpr uint32_t kValuesAPiece = 8;
// Values of a row that share a scale byte; the bytes follow the row's values.
inline constexpr uint32_t kValuesAScale = 32;

// Place p of token p / columns shows row inverse[p] (p itself without an inverse) at
// out[p / columns * token_stride + p % columns * dim].
struct DequantizeArguments {
  RowValues values = RowValues::kBf16;
  ScaleReading reading = ScaleReading::kFormat;
  uint32_t dim = 0;
  uint32_t row_bytes = 0;
  const std::byte* rows = nullptr;  // [row_count] of row_bytes, back to back
  uint32_t row_count = 0;
  const uint32_t* inverse = nullptr;  // [places], or null
  uint32_t places = 0;                // tokens * columns
  uint32_t columns = 0;
  uint64_t token_stride = 0;     // values, at least columns * dim
  uint16_t* out = nullptr;       // bf16
  uint32_t* bad_rows = nullptr;  // set to 1 where an inverse is not below row_count
};

struct E4m3Table {
  uint16_t bf16[256];  // what each byte is, with the table's one scale
};

struct alignas(8) EightBytes {
  uint8_t byte[8];
};
struct alignas(16) EightWords {
  uint16_t word[8];
};

// A piece's bytes, where the row holds them aligned to their size.
template <typename T>
ENGRAM_LOOP_FUNCTION T LoadWhole(const std::byte* from) {
  return *reinterpret_cast<const T*>(from);
}

template <RowValues kValues>
ENGRAM_LOOP_FUNCTION uint16_t ValueAt(const DequantizeArguments& a, const uint16_t* table,
                                      const std::byte* row, uint32_t i) {
  const auto* const bytes = reinterpret_cast<const uint8_t*>(row);
  if constexpr (kValues == RowValues::kE4m3) return table[bytes[i]];
  if constexpr (kValues == RowValues::kE4m3Ue8m0) {
    return Bf16OfE4m3Careful(bytes[i], bytes[a.dim + i / kValuesAScale], a.reading);
  }
  if constexpr (kValues == RowValues::kFp32) {
    const uint8_t* const b = bytes + 4 * i;
    return Bf16OfFloatBits(b[0] | b[1] << 8 | b[2] << 16 | static_cast<uint32_t>(b[3]) << 24);
  }
  const auto bits = static_cast<uint16_t>(bytes[2 * i] | bytes[2 * i + 1] << 8);
  return kValues == RowValues::kFp16 ? Bf16OfFp16Bits(bits) : bits;
}

// Eight values from value `first` on, all there, of a row whose pieces are aligned.
template <RowValues kValues>
ENGRAM_LOOP_FUNCTION EightWords PieceAt(const DequantizeArguments& a, const uint16_t* table,
                                        const std::byte* row, uint32_t first) {
  auto out = EightWords();
  if constexpr (kValues == RowValues::kBf16) out = LoadWhole<EightWords>(row + 2 * first);
  if constexpr (kValues == RowValues::kFp16) {
    const auto in = LoadWhole<EightWords>(row + 2 * first);
    for (int i = 0; i < 8; ++i) out.word[i] = Bf16OfFp16Bits(in.word[i]);
  }
  if constexpr (kValues == RowValues::kFp32) {
    struct alignas(16) FourFloats {
      uint32_t bits[4];
    };
    for (int half = 0; half < 2; ++half) {
      const auto in = LoadWhole<FourFloats>(row + 4 * first + 16 * half);
      for (int i = 0; i < 4; ++i) out.word[4 * half + i] = Bf16OfFloatBits(in.bits[i]);
    }
  }
  if constexpr (kValues == RowValues::kE4m3) {
    const auto in = LoadWhole<EightBytes>(row + first);
    for (int i = 0; i < 8; ++i) out.word[i] = table[in.byte[i]];
  }
  if constexpr (kValues == RowValues::kE4m3Ue8m0) {
    const auto in = LoadWhole<EightBytes>(row + first);
    const auto scale_byte = static_cast<uint8_t>(row[a.dim + first / kValuesAScale]);
    if (IsPlainScale(scale_byte)) {
      const float scale = PlainScale(scale_byte);
      for (int i = 0; i < 8; ++i) out.word[i] = Bf16OfE4m3Plain(in.byte[i], scale);
    } else {
      for (int i = 0; i < 8; ++i) {
        out.word[i] = Bf16OfE4m3Careful(in.byte[i], scale_byte, a.reading);
      }
    }
  }
  return out;
}

ENGRAM_LOOP_FUNCTION uint32_t PiecesARow(const DequantizeArguments& a) {
  return (a.dim + kValuesAPiece - 1) / kValuesAPiece;
}

// Piece `piece` of all: pieces of a place follow one another, so that neighbouring threads read and
// write neighbouring bytes. `kAligned`: rows, their width, `out` and its stride allow whole loads
// and stores, and dim is a multiple of eight. `table` is for kE4m3 alone. False: the place's row is
// none of row_count; its values are left out.
template <RowValues kValues, bool kAligned>
ENGRAM_LOOP_FUNCTION bool DequantizePiece(const DequantizeArguments& a, const uint16_t* table,
                                          uint32_t piece) {
  const uint32_t pieces = PiecesARow(a);
  const uint32_t place = piece / pieces;
  const uint32_t first = (piece - place * pieces) * kValuesAPiece;
  const uint32_t row_index = a.inverse == nullptr ? place : a.inverse[place];
  if (row_index >= a.row_count) return false;
  const std::byte* const row = a.rows + static_cast<uint64_t>(row_index) * a.row_bytes;
  const uint32_t token = place / a.columns;
  const uint32_t column = place - token * a.columns;
  uint16_t* const out = a.out + token * a.token_stride + static_cast<uint64_t>(column) * a.dim;
  if constexpr (kAligned) {
    *reinterpret_cast<EightWords*>(out + first) = PieceAt<kValues>(a, table, row, first);
  } else {
    const uint32_t end = first + kValuesAPiece < a.dim ? first + kValuesAPiece : a.dim;
    for (uint32_t i = first; i < end; ++i) out[i] = ValueAt<kValues>(a, table, row, i);
  }
  return true;
}

}  // namespace engram

#undef ENGRAM_LOOP_FUNCTION
