#include "memstore/table/synthetic.h"

#include <algorithm>
#include <cstring>

#include "memstore/base/splitmix64.h"

namespace engram {
namespace {

uint64_t Word(uint64_t layer, uint64_t word, RowId row_id) {
  return SplitMix64Mix((layer << 48) ^ (word << 40) ^ row_id);
}

}  // namespace

void SyntheticRow(uint32_t layer, RowId row_id, absl::Span<std::byte> row) {
  const size_t words = row.size() / sizeof(uint64_t);
  for (size_t w = 0; w < words; ++w) {
    const uint64_t word = Word(layer, w, row_id);
    std::memcpy(row.data() + w * sizeof(word), &word, sizeof(word));
  }
  const uint64_t last = Word(layer, words, row_id);
  std::memcpy(row.data() + words * sizeof(last), &last, row.size() % sizeof(last));
}

void SyntheticRows(uint32_t layer, RowId first_row, uint32_t row_bytes,
                   absl::Span<std::byte> rows) {
  for (; !rows.empty(); rows.remove_prefix(row_bytes)) {
    SyntheticRow(layer, first_row++, rows.first(row_bytes));
  }
}

bool IsSyntheticRow(uint32_t layer, RowId row_id, absl::Span<const std::byte> row) {
  for (size_t at = 0; at < row.size(); at += sizeof(uint64_t)) {
    const uint64_t word = Word(layer, at / sizeof(word), row_id);
    if (std::memcmp(row.data() + at, &word, std::min(sizeof(word), row.size() - at)) != 0) {
      return false;
    }
  }
  return true;
}

}  // namespace engram
