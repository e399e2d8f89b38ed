// One value of a row, from how a table holds it to bf16: for host and device alike, integers and
// floats that are never subnormal, so that a thread that flushes subnormals changes nothing.
//
// Exact: the value that the bytes mean, rounded once, to nearest even; subnormal results are kept,
// what is too large is infinity. Every NaN becomes kBf16Nan; bf16 itself is copied as it is.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define ENGRAM_VALUE_FUNCTION __host__ __device__ __forceinline__
#else
#define ENGRAM_VALUE_FUNCTION inline __attribute__((always_inline))
#endif

namespace engram {

inline constexpr uint16_t kBf16Nan = 0x7FC0;
inline constexpr uint16_t kBf16Infinity = 0x7F80;

// What the scale bytes 0 and 255 mean; all others are 2^(byte - 127) in both readings.
enum class ScaleReading : uint8_t {
  kFormat,   // E8M0's: 2^-127 and NaN
  kShifted,  // of readers that compute byte << 23 as fp32: 0 and infinity
};

// Scale bytes that make no E4M3 value subnormal, 2^-9 being its least; what they make too large is
// infinity in fp32 as in bf16.
inline constexpr uint32_t kFirstPlainScale = 10;
inline constexpr uint32_t kLastPlainScale = 254;

ENGRAM_VALUE_FUNCTION float FloatOfBits(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  return __builtin_bit_cast(float, bits);
#endif
}

ENGRAM_VALUE_FUNCTION uint32_t BitsOfFloat(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  return __builtin_bit_cast(uint32_t, value);
#endif
}

// `yes` where a < b, else `no`; a and b are below 2^31. By arithmetic: a comparison would become a
// branch, which keeps a host's loop from becoming vectors.
ENGRAM_VALUE_FUNCTION uint32_t SelectBelow(uint32_t a, uint32_t b, uint32_t yes, uint32_t no) {
  const uint32_t mask = 0u - ((a - b) >> 31);
  return (yes & mask) | (no & ~mask);
}

ENGRAM_VALUE_FUNCTION uint16_t Bf16OfFloatBits(uint32_t bits) {
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>(SelectBelow(0x7F800000u, bits & 0x7FFFFFFFu, kBf16Nan, rounded));
}

// Every finite fp16 is a normal fp32: a subnormal one is 2^-14 less than with an implicit one.
ENGRAM_VALUE_FUNCTION uint16_t Bf16OfFp16Bits(uint16_t bits) {
  const uint32_t magnitude = bits & 0x7FFFu;
  const uint32_t subnormal =
      BitsOfFloat(FloatOfBits((magnitude << 13) | (113u << 23)) - 6.103515625e-05f);
  const uint32_t normal = (magnitude << 13) + (SelectBelow(magnitude, 0x7C00u, 112u, 224u) << 23);
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  return Bf16OfFloatBits(sign | SelectBelow(magnitude, 0x400u, subnormal, normal));
}

// An E4M3 byte's magnitude as fp32; 480 for its NaN. Subnormal ones as above: 2^-6 less.
ENGRAM_VALUE_FUNCTION float MagnitudeOfE4m3(uint32_t byte) {
  const uint32_t shifted = (byte & 0x7Fu) << 20;
  const uint32_t subnormal = BitsOfFloat(FloatOfBits(shifted | (121u << 23)) - 0.015625f);
  const uint32_t normal = shifted + (120u << 23);
  return FloatOfBits(SelectBelow(shifted, 8u << 20, subnormal, normal));
}

// Times a scale of kFirstPlainScale..kLastPlainScale, `scale` = 2^(byte - 127): exact in fp32 with
// four bits, so that its upper half is the bf16.
ENGRAM_VALUE_FUNCTION uint16_t Bf16OfE4m3Plain(uint32_t byte, float scale) {
  const uint32_t magnitude = BitsOfFloat(MagnitudeOfE4m3(byte) * scale) >> 16;
  const uint32_t bits = magnitude | ((byte & 0x80u) << 8);
  return static_cast<uint16_t>(SelectBelow(0x7Eu, byte & 0x7Fu, kBf16Nan, bits));
}

ENGRAM_VALUE_FUNCTION bool IsPlainScale(uint32_t scale_byte) {
  return scale_byte - kFirstPlainScale <= kLastPlainScale - kFirstPlainScale;
}
ENGRAM_VALUE_FUNCTION float PlainScale(uint32_t scale_byte) {
  return FloatOfBits(scale_byte << 23);
}

// mantissa * 2^exponent as bf16, mantissa below 16.
ENGRAM_VALUE_FUNCTION uint32_t Bf16MagnitudeOf(uint32_t mantissa, int exponent) {
  if (mantissa == 0) return 0;
  int top = 3;
  while ((mantissa >> top) == 0) --top;
  if (top + exponent > 127) return kBf16Infinity;
  if (top + exponent >= -126) {
    return (static_cast<uint32_t>(top + exponent + 127) << 7) | ((mantissa << (7 - top)) & 0x7Fu);
  }
  const int shift = -133 - exponent;  // a subnormal's unit is 2^-133
  if (shift <= 0) return mantissa << -shift;
  if (shift > 5) return 0;
  const uint32_t half = 1u << (shift - 1);
  return (mantissa + (half - 1) + ((mantissa >> shift) & 1u)) >> shift;
}

// Times any scale byte, by integers: for the scales that are not plain.
ENGRAM_VALUE_FUNCTION uint16_t Bf16OfE4m3Careful(uint32_t byte, uint32_t scale_byte,
                                                 ScaleReading reading) {
  const uint32_t magnitude = byte & 0x7Fu;
  const uint32_t sign = (byte & 0x80u) << 8;
  if (magnitude == 0x7Fu) return kBf16Nan;
  if (scale_byte == 255) {
    if (reading == ScaleReading::kFormat || magnitude == 0) return kBf16Nan;
    return static_cast<uint16_t>(sign | kBf16Infinity);
  }
  if (scale_byte == 0 && reading == ScaleReading::kShifted) return static_cast<uint16_t>(sign);
  const uint32_t field = magnitude >> 3;
  const uint32_t mantissa = (magnitude & 7u) | (field == 0 ? 0u : 8u);
  const int exponent = static_cast<int>(field == 0 ? 1 : field) - 10;  // of the mantissa's unit
  const int scale = static_cast<int>(scale_byte) - 127;
  return static_cast<uint16_t>(sign | Bf16MagnitudeOf(mantissa, exponent + scale));
}

}  // namespace engram

#undef ENGRAM_VALUE_FUNCTION
