// Four columns of one order to a register: they share a mix and differ in their modulus.

#include <immintrin.h>

#include "memstore/addressing/hash_kernels.h"

#define ENGRAM_AVX2 __attribute__((target("avx2,fma")))

namespace engram {
namespace {

constexpr uint32_t kLanes = 4;

struct Constants {
  __m256d inverse;
  __m256i modulus;
  __m256i offset;
  __m256i lane_mask;
  bool full;
};

// Of the block's columns from `first_lane` on.
ENGRAM_AVX2 inline Constants Load(const ColumnBlock& block, uint32_t first_lane) {
  const __m256i lane =
      _mm256_add_epi64(_mm256_set1_epi64x(first_lane), _mm256_setr_epi64x(0, 1, 2, 3));
  return {_mm256_load_pd(block.inverse + first_lane),
          _mm256_load_si256(reinterpret_cast<const __m256i*>(block.modulus + first_lane)),
          _mm256_load_si256(reinterpret_cast<const __m256i*>(block.offset + first_lane)),
          _mm256_cmpgt_epi64(_mm256_set1_epi64x(block.lanes), lane),
          first_lane + kLanes <= block.lanes};
}

// Rounded once: both halves become doubles by their bits alone, and the first sum is exact.
ENGRAM_AVX2 inline __m256d ToDouble(__m256i value) {
  const __m256i high_magic = _mm256_castpd_si256(_mm256_set1_pd(0x1p84));
  const __m256i low_magic = _mm256_castpd_si256(_mm256_set1_pd(0x1p52));
  const __m256i high = _mm256_or_si256(_mm256_srli_epi64(value, 32), high_magic);
  const __m256i low = _mm256_blend_epi32(low_magic, value, 0x55);
  const __m256d high_part =
      _mm256_sub_pd(_mm256_castsi256_pd(high), _mm256_set1_pd(0x1p84 + 0x1p52));
  return _mm256_add_pd(high_part, _mm256_castsi256_pd(low));
}

// (mix mod modulus) + offset (hash_kernels.h has why one correction is enough). A rest that is
// negative is, as an unsigned 32-bit number, larger than itself plus the modulus.
ENGRAM_AVX2 inline __m256i RowIds(__m256i mix, __m256d mix_as_double, const Constants& c) {
  const __m256d estimate =
      _mm256_fmadd_pd(mix_as_double, c.inverse, _mm256_set1_pd(kRoundToInteger));
  const __m256i product = _mm256_mul_epu32(_mm256_castpd_si256(estimate), c.modulus);
  const __m256i rest = _mm256_sub_epi32(mix, product);
  const __m256i corrected = _mm256_min_epu32(rest, _mm256_add_epi32(rest, c.modulus));
  const __m256i low_words = _mm256_blend_epi32(_mm256_setzero_si256(), corrected, 0x55);
  return _mm256_add_epi64(low_words, c.offset);
}

ENGRAM_AVX2 inline void TableSetRegistry(RowId* rows, __m256i row_ids, const Constants& c) {
  if (c.full) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(rows), row_ids);
  } else {
    _mm256_maskstore_epi64(reinterpret_cast<long long*>(rows), c.lane_mask, row_ids);
  }
}

// XorStep for four tokens; there is no 64-bit multiplication of vectors here.
ENGRAM_AVX2 inline void AddTerm(const uint32_t* ids, uint64_t multiplier, uint32_t tokens,
                                bool is_first, VectorMixes* mixes) {
  const __m256i low = _mm256_set1_epi64x(static_cast<int64_t>(multiplier));
  const __m256i high = _mm256_srli_epi64(low, 32);
  for (uint32_t run = 0; run < tokens; run += kLanes) {
    const __m256i id =
        _mm256_cvtepu32_epi64(_mm_load_si128(reinterpret_cast<const __m128i*>(ids + run)));
    const __m256i product = _mm256_add_epi64(_mm256_mul_epu32(id, low),
                                             _mm256_slli_epi64(_mm256_mul_epu32(id, high), 32));
    __m256i* const exact = reinterpret_cast<__m256i*>(mixes->exact + run);
    const __m256i mix = is_first ? product : _mm256_xor_si256(_mm256_load_si256(exact), product);
    _mm256_store_si256(exact, mix);
    _mm256_store_pd(mixes->rounded + run, ToDouble(mix));
  }
}

ENGRAM_AVX2 void HashXor(const LayerHash& layer, const WindowTile& tile, RowId* rows,
                         size_t token_stride) {
  VectorMixes mixes;
  AddTerm(tile.ids[0], layer.multipliers[0], tile.tokens, true, &mixes);
  uint32_t terms = 1;
  for (const ColumnBlock& block : layer.blocks) {
    for (; terms < block.order; ++terms) {
      AddTerm(tile.ids[terms], layer.multipliers[terms], tile.tokens, false, &mixes);
    }
    for (uint32_t lane = 0; lane < block.lanes; lane += kLanes) {
      const Constants constants = Load(block, lane);
      RowId* out = rows + block.first_column + lane;
      for (uint32_t t = 0; t < tile.tokens; ++t, out += token_stride) {
        const __m256i mix = _mm256_set1_epi64x(static_cast<int64_t>(mixes.exact[t]));
        TableSetRegistry(out, RowIds(mix, _mm256_set1_pd(mixes.rounded[t]), constants), constants);
      }
    }
  }
}

ENGRAM_AVX2 void HashPolynomial(const LayerHash& layer, const WindowTile& tile, RowId* rows,
                                size_t token_stride) {
  for (const ColumnBlock& block : layer.blocks) {
    for (uint32_t lane = 0; lane < block.lanes; lane += kLanes) {
      const Constants constants = Load(block, lane);
      RowId* out = rows + block.first_column + lane;
      for (uint32_t t = 0; t < tile.tokens; ++t, out += token_stride) {
        __m256i sum = _mm256_set1_epi64x(tile.ids[0][t]);
        for (uint32_t d = 1; d < block.order; ++d) {
          const __m256i coefficient =
              _mm256_load_si256(reinterpret_cast<const __m256i*>(block.coefficient[d] + lane));
          const __m256i id = _mm256_set1_epi32(static_cast<int32_t>(tile.ids[d][t]));
          sum = _mm256_add_epi64(sum, _mm256_mul_epu32(id, coefficient));
        }
        TableSetRegistry(out, RowIds(sum, ToDouble(sum), constants), constants);
      }
    }
  }
}

}  // namespace

void HashTileAvx2(const LayerHash& layer, const WindowTile& tile, RowId* rows,
                  size_t token_stride) {
  const bool is_xor = layer.combine == Combine::kXorOfProducts;
  (is_xor ? HashXor : HashPolynomial)(layer, tile, rows, token_stride);
}

}  // namespace engram
