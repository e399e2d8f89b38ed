#include "memstore/cache/hot_cache_index.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"
#include "memstore/base/splitmix64.h"

namespace engram {

absl::StatusOr<HotCacheIndex> HotCacheIndex::Create(uint64_t places, uint32_t heads) {
  if (heads == 0 || places < kWays || places > uint64_t{UINT32_MAX} - kWays) {
    return absl::InvalidArgumentError(absl::StrCat("a cache of ", places, " groups of ", heads,
                                                   " rows: ", kWays,
                                                   " groups at least, of a row each at least"));
  }
  HotCacheIndex index;
  index.heads_ = heads;
  index.sets_ = places / kWays;
  const uint64_t whole = index.sets_ * kWays;
  index.layers_.assign(whole, kNoLayer);
  index.keys_.resize(whole * heads);
  index.hashes_.resize(whole);
  const uint64_t counters = std::bit_ceil(whole);
  index.counter_mask_ = counters - 1;
  index.sketch_.resize(kSketchRows * counters);
  return index;
}

// Two heads tell n-grams apart as well as all do.
uint64_t HotCacheIndex::HashOf(uint32_t layer, absl::Span<const RowId> row_ids) const {
  return SplitMix64Mix(SplitMix64Mix(row_ids.front() ^ uint64_t{layer} << 48) ^ row_ids.back());
}

bool HotCacheIndex::Holds(uint32_t place, uint32_t layer, absl::Span<const RowId> row_ids) const {
  const RowId* const key = &keys_[uint64_t{place} * heads_];
  return layers_[place] == layer && std::equal(row_ids.begin(), row_ids.end(), key) &&
         (row_ids.size() == heads_ || key[row_ids.size()] == kNoRow);
}

uint32_t HotCacheIndex::Seen(uint64_t hash) const {
  uint8_t least = kMostSeen;
  for (uint32_t row = 0; row < kSketchRows; ++row) {
    least = std::min(
        least, sketch_[row * (counter_mask_ + 1) + (SplitMix64Mix(hash + row) & counter_mask_)]);
  }
  return least;
}

void HotCacheIndex::Count(uint64_t hash) {
  for (uint32_t row = 0; row < kSketchRows; ++row) {
    uint8_t& counter =
        sketch_[row * (counter_mask_ + 1) + (SplitMix64Mix(hash + row) & counter_mask_)];
    if (counter < kMostSeen) ++counter;
  }
  if (++sightings_ < kAgeing * (counter_mask_ + 1)) return;
  sightings_ = 0;
  for (uint8_t& counter : sketch_) counter /= 2;
}

uint32_t HotCacheIndex::Find(uint32_t layer, absl::Span<const RowId> row_ids) {
  const uint64_t hash = HashOf(layer, row_ids);
  Count(hash);
  const uint32_t first = SetOf(hash) * kWays;
  for (uint32_t place = first; place < first + kWays; ++place) {
    if (hashes_[place] == hash && Holds(place, layer, row_ids)) return place;
  }
  return kMiss;
}

uint32_t HotCacheIndex::Admit(uint32_t layer, absl::Span<const RowId> row_ids) {
  const uint64_t hash = HashOf(layer, row_ids);
  const uint32_t first = SetOf(hash) * kWays;
  uint32_t rarest = kMiss, least = Seen(hash);
  for (uint32_t place = first; place < first + kWays; ++place) {
    if (layers_[place] == kNoLayer) {
      rarest = place;
      break;
    }
    // It may have been admitted for another place of the same batch.
    if (hashes_[place] == hash && Holds(place, layer, row_ids)) return place;
    if (const uint32_t seen = Seen(hashes_[place]); seen < least) {
      least = seen;
      rarest = place;
    }
  }
  if (rarest == kMiss) return kMiss;
  layers_[rarest] = layer;
  hashes_[rarest] = hash;
  RowId* const key = &keys_[uint64_t{rarest} * heads_];
  std::fill(std::copy(row_ids.begin(), row_ids.end(), key), key + heads_, kNoRow);
  return rarest;
}

}  // namespace engram
