#include "memstore/pack/interleave.h"

#include <cstring>

namespace engram {
namespace {

template <uint32_t kWeightBytes, uint32_t kScaleBytes>
void InterleaveFixed(const std::byte* weights, const std::byte* scales, size_t rows,
                     std::byte* out) {
  for (size_t row = 0; row < rows; ++row) {
    std::memcpy(out, weights, kWeightBytes);
    std::memcpy(out + kWeightBytes, scales, kScaleBytes);
    weights += kWeightBytes;
    scales += kScaleBytes;
    out += kWeightBytes + kScaleBytes;
  }
}

}  // namespace

void InterleaveRows(absl::Span<const std::byte> weights, uint32_t weight_bytes,
                    absl::Span<const std::byte> scales, uint32_t scale_bytes,
                    absl::Span<std::byte> out) {
  const size_t row_bytes = size_t{weight_bytes} + scale_bytes;
  const size_t rows = out.size() / row_bytes;
  if (weight_bytes == 256 && scale_bytes == 8) {
    InterleaveFixed<256, 8>(weights.data(), scales.data(), rows, out.data());
    return;
  }
  for (size_t row = 0; row < rows; ++row) {
    std::byte* to = out.data() + row * row_bytes;
    std::memcpy(to, weights.data() + row * weight_bytes, weight_bytes);
    std::memcpy(to + weight_bytes, scales.data() + row * scale_bytes, scale_bytes);
  }
}

}  // namespace engram
