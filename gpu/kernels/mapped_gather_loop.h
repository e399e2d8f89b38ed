// The loop of a mapped gather that a thread runs, for host and device alike.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define ENGRAM_LOOP_FUNCTION __host__ __device__ __forceinline__
#else
#define ENGRAM_LOOP_FUNCTION inline
#endif

namespace engram {

// Rows first..first+rows-1 of a table.
struct TableRowRange {
  uint64_t first = 0;
  uint64_t rows = 0;
};

// Loads that a thread has under way at once: what hides PCIe's latency.
inline constexpr int kMappedGatherLoads = 4;

// What GatherWords takes its rows from.
struct GatherRows {
  TableRowRange held;                      // what `table` has: row held.first is its first one
  const TableRowRange* columns = nullptr;  // where set: id i is one of columns[i % column_count]
  uint32_t column_count = 0;
};

// Whether row id `id`, the batch's `row`th one, is one of those that it may be.
ENGRAM_LOOP_FUNCTION bool IsGoodRow(const GatherRows& from, uint64_t id, uint32_t row) {
  // Unsigned: below the first one is far beyond the last one.
  if (id - from.held.first >= from.held.rows) return false;
  if (from.columns == nullptr) return true;
  const TableRowRange column = from.columns[row % from.column_count];
  return id - column.first < column.rows;
}

// Copies every `stride`th word of the batch, from word `first` on; word w of the batch is word w %
// row_words of row ids[w / row_words]. False: an id among them was not a good one; its words are
// left out. A batch has fewer than 2^31 words: divisions of 64 bits would be slower than PCIe.
template <typename Word>
ENGRAM_LOOP_FUNCTION bool GatherWords(const Word* table, const GatherRows& from, uint32_t row_words,
                                      const uint64_t* ids, uint32_t count, Word* out,
                                      uint32_t first, uint32_t stride) {
  const uint32_t words = count * row_words;
  bool all_good = true;
  for (uint64_t begin = first; begin < words; begin += uint64_t{stride} * kMappedGatherLoads) {
    Word loaded[kMappedGatherLoads];
    bool good[kMappedGatherLoads];
    for (int i = 0; i < kMappedGatherLoads; ++i) {
      const uint64_t place = begin + uint64_t{stride} * i;
      good[i] = false;
      if (place >= words) continue;
      const auto word = static_cast<uint32_t>(place);
      const uint32_t row = word / row_words;
      const uint64_t id = ids[row];
      good[i] = IsGoodRow(from, id, row);
      all_good &= good[i];
      if (good[i]) {
        loaded[i] = table[(id - from.held.first) * row_words + (word - row * row_words)];
      }
    }
    for (int i = 0; i < kMappedGatherLoads; ++i) {
      if (good[i]) out[begin + uint64_t{stride} * i] = loaded[i];
    }
  }
  return all_good;
}

}  // namespace engram

#undef ENGRAM_LOOP_FUNCTION
