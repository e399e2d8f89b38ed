#include "memstore/table/interleave.h"

#include <algorithm>
#include <cstring>

#include "memstore/base/check.h"

namespace engram {
namespace {

// Rows that are joined before the next ones: what they take stays in the first-level cache while
// part after part is copied into it.
constexpr size_t kRowsAtATime = 32;

template <uint32_t kBytes>
void CopyFixed(const std::byte* from, size_t rows, std::byte* to, size_t stride) {
  for (size_t row = 0; row < rows; ++row) {
    std::memcpy(to + row * stride, from + row * kBytes, kBytes);
  }
}

// `rows` rows of a part to every `stride` bytes from `to` on.
void CopyPart(const std::byte* from, uint32_t row_bytes, size_t rows, std::byte* to,
              size_t stride) {
  if (row_bytes == 256) return CopyFixed<256>(from, rows, to, stride);
  if (row_bytes == 8) return CopyFixed<8>(from, rows, to, stride);
  for (size_t row = 0; row < rows; ++row) {
    std::memcpy(to + row * stride, from + row * row_bytes, row_bytes);
  }
}

}  // namespace

void InterleaveRows(absl::Span<const PartRows> parts, absl::Span<std::byte> out) {
  size_t row_bytes = 0;
  for (const PartRows& part : parts) row_bytes += part.row_bytes;
  ENGRAM_CHECK(row_bytes > 0, "rows of no parts");
  const size_t rows = out.size() / row_bytes;
  for (size_t row = 0; row < rows; row += kRowsAtATime) {
    const size_t count = std::min(kRowsAtATime, rows - row);
    std::byte* to = out.data() + row * row_bytes;
    for (const PartRows& part : parts) {
      CopyPart(part.rows + row * part.row_bytes, part.row_bytes, count, to, row_bytes);
      to += part.row_bytes;
    }
  }
}

}  // namespace engram
