// The loop of a mapped gather that a thread runs, for host and device alike.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define ENGRAM_LOOP_FUNCTION __host__ __device__ __forceinline__
#else
#define ENGRAM_LOOP_FUNCTION inline
#endif

namespace engram {

// Loads that a thread has under way at once: what hides PCIe's latency.
inline constexpr int kMappedGatherLoads = 4;

// Copies every `stride`th word of the batch, from word `first` on; word w of the batch is word w %
// row_words of row ids[w / row_words]. False: an id among them was not below `table_rows`; its
// words are left out. A batch has fewer than 2^31 words: divisions of 64 bits would be slower than
// PCIe.
template <typename Word>
ENGRAM_LOOP_FUNCTION bool GatherWords(const Word* table, uint64_t table_rows, uint32_t row_words,
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
      good[i] = ids[row] < table_rows;
      all_good &= good[i];
      if (good[i]) loaded[i] = table[ids[row] * row_words + (word - row * row_words)];
    }
    for (int i = 0; i < kMappedGatherLoads; ++i) {
      if (good[i]) out[begin + uint64_t{stride} * i] = loaded[i];
    }
  }
  return all_good;
}

}  // namespace engram

#undef ENGRAM_LOOP_FUNCTION
