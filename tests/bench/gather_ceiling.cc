#include "tests/bench/gather_ceiling.h"

#include <immintrin.h>

#include <cstring>
#include <utility>

namespace engram::bench {
namespace {

#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f")))

template <size_t kRow>
inline __attribute__((always_inline)) void PrefetchLines(const std::byte* row) {
#pragma GCC unroll 8
  for (size_t at = 0; at < kRow; at += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(row) + at, _MM_HINT_T0);
  }
}

// 160 = 5 * 32, 264 = 8 * 32 + 8, 320 = 10 * 32.
template <size_t kRow, size_t kAhead>
AVX2 void Avx2Loop(const std::byte* base, const uint32_t* ids, size_t count, std::byte* out) {
  const size_t head = count < kAhead ? count : kAhead;
  for (size_t i = 0; i < head; ++i) PrefetchLines<kRow>(base + size_t{ids[i]} * kRow);
  for (size_t i = 0; i < count; ++i, out += kRow) {
    if (i + kAhead < count) PrefetchLines<kRow>(base + size_t{ids[i + kAhead]} * kRow);
    const std::byte* const row = base + size_t{ids[i]} * kRow;
    __m256i part[kRow / 32];
#pragma GCC unroll 16
    for (size_t k = 0; k < kRow / 32; ++k) {
      part[k] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row) + k);
    }
#pragma GCC unroll 16
    for (size_t k = 0; k < kRow / 32; ++k) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out) + k, part[k]);
    }
    if constexpr (kRow % 32 != 0) std::memcpy(out + kRow - 8, row + kRow - 8, 8);
  }
}

// 160 = 2 * 64 + 32, 264 = 4 * 64 + 8, 320 = 5 * 64.
template <size_t kRow, size_t kAhead>
AVX512 void Avx512Loop(const std::byte* base, const uint32_t* ids, size_t count, std::byte* out) {
  const size_t head = count < kAhead ? count : kAhead;
  for (size_t i = 0; i < head; ++i) PrefetchLines<kRow>(base + size_t{ids[i]} * kRow);
  for (size_t i = 0; i < count; ++i, out += kRow) {
    if (i + kAhead < count) PrefetchLines<kRow>(base + size_t{ids[i + kAhead]} * kRow);
    const std::byte* const row = base + size_t{ids[i]} * kRow;
    __m512i part[kRow / 64];
#pragma GCC unroll 8
    for (size_t k = 0; k < kRow / 64; ++k) part[k] = _mm512_loadu_si512(row + k * 64);
#pragma GCC unroll 8
    for (size_t k = 0; k < kRow / 64; ++k) _mm512_storeu_si512(out + k * 64, part[k]);
    if constexpr (kRow % 64 == 32) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + kRow - 32),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + kRow - 32)));
    }
    if constexpr (kRow % 64 == 8) std::memcpy(out + kRow - 8, row + kRow - 8, 8);
  }
}

#undef AVX2
#undef AVX512

template <size_t kRow, size_t... kAhead>
std::vector<HandTunedLoop> Sweep(std::index_sequence<kAhead...>) {
  std::vector<HandTunedLoop> loops;
  const auto name = [](const char* set, size_t ahead) {
    return std::string(set) + ", " + std::to_string(ahead) + " ahead";
  };
  if (__builtin_cpu_supports("avx2")) {
    (loops.push_back({name("avx2", kAhead), &Avx2Loop<kRow, kAhead>}), ...);
  }
  if (__builtin_cpu_supports("avx512f")) {
    (loops.push_back({name("avx512", kAhead), &Avx512Loop<kRow, kAhead>}), ...);
  }
  return loops;
}

using Distances = std::index_sequence<4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64>;

}  // namespace

std::vector<HandTunedLoop> HandTunedLoops(uint32_t row_bytes) {
  switch (row_bytes) {
    case 160:
      return Sweep<160>(Distances());
    case 264:
      return Sweep<264>(Distances());
    case 320:
      return Sweep<320>(Distances());
    default:
      return {};
  }
}

}  // namespace engram::bench
