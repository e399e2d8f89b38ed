// Eight columns of one order to a register: they share a mix and differ in their modulus.

#ifndef __clang__
// g++ 12 warns of the intrinsics' own undefined operands (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include "memstore/addressing/hash_kernels.h"

#define ENGRAM_AVX512 __attribute__((target("avx512f,avx512dq")))

namespace engram {
namespace {

// The low words of the eight 64-bit lanes.
constexpr __mmask16 kLowWords = 0x5555;

struct Constants {
  __m512d inverse;
  __m512i modulus;
  __m512i offset;
};

ENGRAM_AVX512 inline Constants Load(const ColumnBlock& block) {
  return {_mm512_load_pd(block.inverse), _mm512_load_si512(block.modulus),
          _mm512_load_si512(block.offset)};
}

// (mix mod modulus) + offset (hash_kernels.h has why one correction is enough). A rest that is
// negative is, as an unsigned 32-bit number, larger than itself plus the modulus.
ENGRAM_AVX512 inline __m512i RowIds(__m512i mix, __m512d mix_as_double, const Constants& c) {
  const __m512d estimate =
      _mm512_fmadd_pd(mix_as_double, c.inverse, _mm512_set1_pd(kRoundToInteger));
  const __m512i product = _mm512_mul_epu32(_mm512_castpd_si512(estimate), c.modulus);
  const __m512i rest = _mm512_sub_epi32(mix, product);
  const __m512i corrected =
      _mm512_maskz_min_epu32(kLowWords, rest, _mm512_add_epi32(rest, c.modulus));
  return _mm512_add_epi64(corrected, c.offset);
}

ENGRAM_AVX512 inline void TableSetRegistry(RowId* rows, __m512i row_ids, __mmask8 lanes) {
  if (lanes == 0xFF) {
    _mm512_storeu_si512(rows, row_ids);
  } else {
    _mm512_mask_storeu_epi64(rows, lanes, row_ids);
  }
}

inline __mmask8 Lanes(const ColumnBlock& block) {
  return static_cast<__mmask8>((1u << block.lanes) - 1);
}

// XorStep for eight tokens at a time.
ENGRAM_AVX512 inline void AddTerm(const uint32_t* ids, uint64_t multiplier, uint32_t tokens,
                                  bool is_first, VectorMixes* mixes) {
  const __m512i factor = _mm512_set1_epi64(static_cast<int64_t>(multiplier));
  for (uint32_t run = 0; run < tokens; run += kBlockLanes) {
    const __m512i id =
        _mm512_cvtepu32_epi64(_mm256_load_si256(reinterpret_cast<const __m256i*>(ids + run)));
    const __m512i product = _mm512_mullo_epi64(id, factor);
    const __m512i mix =
        is_first ? product : _mm512_xor_si512(_mm512_load_si512(mixes->exact + run), product);
    _mm512_store_si512(mixes->exact + run, mix);
    _mm512_store_pd(mixes->rounded + run, _mm512_cvtepi64_pd(mix));
  }
}

ENGRAM_AVX512 void HashXor(const LayerHash& layer, const WindowTile& tile, RowId* rows,
                           size_t token_stride) {
  VectorMixes mixes;
  AddTerm(tile.ids[0], layer.multipliers[0], tile.tokens, true, &mixes);
  uint32_t terms = 1;
  for (const ColumnBlock& block : layer.blocks) {
    for (; terms < block.order; ++terms) {
      AddTerm(tile.ids[terms], layer.multipliers[terms], tile.tokens, false, &mixes);
    }
    const Constants constants = Load(block);
    const __mmask8 lanes = Lanes(block);
    RowId* out = rows + block.first_column;
    for (uint32_t t = 0; t < tile.tokens; ++t, out += token_stride) {
      const __m512i mix = _mm512_set1_epi64(static_cast<int64_t>(mixes.exact[t]));
      TableSetRegistry(out, RowIds(mix, _mm512_set1_pd(mixes.rounded[t]), constants), lanes);
    }
  }
}

ENGRAM_AVX512 void HashPolynomial(const LayerHash& layer, const WindowTile& tile, RowId* rows,
                                  size_t token_stride) {
  for (const ColumnBlock& block : layer.blocks) {
    const Constants constants = Load(block);
    const __mmask8 lanes = Lanes(block);
    RowId* out = rows + block.first_column;
    for (uint32_t t = 0; t < tile.tokens; ++t, out += token_stride) {
      __m512i sum = _mm512_set1_epi64(tile.ids[0][t]);
      for (uint32_t d = 1; d < block.order; ++d) {
        const __m512i coefficient = _mm512_load_si512(block.coefficient[d]);
        const __m512i id = _mm512_set1_epi32(static_cast<int32_t>(tile.ids[d][t]));
        sum = _mm512_add_epi64(sum, _mm512_mul_epu32(id, coefficient));
      }
      TableSetRegistry(out, RowIds(sum, _mm512_cvtepi64_pd(sum), constants), lanes);
    }
  }
}

}  // namespace

void HashTileAvx512(const LayerHash& layer, const WindowTile& tile, RowId* rows,
                    size_t token_stride) {
  const bool is_xor = layer.combine == Combine::kXorOfProducts;
  (is_xor ? HashXor : HashPolynomial)(layer, tile, rows, token_stride);
}

}  // namespace engram
