// Which n-grams' rows are kept, and where: the hot cache's index, without the rows.
//
// An entry is a group: the rows of all heads of one order at one position, or of some of the heads,
// always the same ones. Its key is the layer and those row ids, all of which are compared, so that
// what is found is what was asked for whatever the hash does; rows never change, so an entry is
// right for as long as its table set is. Eight places make a set; a newcomer takes the place of the
// set's rarest entry, if it has been seen more often (TinyLFU: a count-min sketch of 4-bit
// counters, all halved after kAgeing * capacity sightings, so that what was hot once makes room).
//
// Belongs to one thread. Nothing allocates after Create. Cost: one hash and up to eight compares a
// group.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"

namespace engram {

class HotCacheIndex {
 public:
  static constexpr uint32_t kMiss = UINT32_MAX;
  static constexpr uint32_t kWays = 8;
  static constexpr uint32_t kAgeing = 10;

  // `places` is rounded down to whole sets. INVALID_ARGUMENT: less than one set, or no heads. No
  // group has more row ids than `heads`.
  static absl::StatusOr<HotCacheIndex> Create(uint64_t places, uint32_t heads);

  // The place of a group's rows, or kMiss; counts the sighting. `row_ids` has 1 to `heads` ids.
  uint32_t Find(uint32_t layer, absl::Span<const RowId> row_ids);
  // A place for a group that Find missed: from now on it is found there. kMiss: what is kept is
  // seen more often.
  uint32_t Admit(uint32_t layer, absl::Span<const RowId> row_ids);

  uint32_t places() const { return static_cast<uint32_t>(layers_.size()); }
  uint32_t heads() const { return heads_; }

 private:
  HotCacheIndex() = default;

  uint64_t HashOf(uint32_t layer, absl::Span<const RowId> row_ids) const;
  uint32_t SetOf(uint64_t hash) const { return static_cast<uint32_t>((hash >> 32) * sets_ >> 32); }
  bool Holds(uint32_t place, uint32_t layer, absl::Span<const RowId> row_ids) const;
  uint32_t Seen(uint64_t hash) const;
  void Count(uint64_t hash);

  static constexpr uint32_t kNoLayer = UINT32_MAX;
  // Ends the key of a group of fewer row ids: rows are below 2^40 (scheme.h).
  static constexpr RowId kNoRow = UINT64_MAX;
  static constexpr uint32_t kSketchRows = 4;
  static constexpr uint8_t kMostSeen = 15;

  uint32_t heads_ = 0;
  uint64_t sets_ = 0;
  std::vector<uint32_t> layers_;  // [places]; kNoLayer: empty
  std::vector<RowId> keys_;       // [places][heads]
  std::vector<uint64_t> hashes_;  // [places]
  std::vector<uint8_t> sketch_;   // [kSketchRows][counters]
  uint64_t counter_mask_ = 0;
  uint64_t sightings_ = 0;  // since the last halving
};

}  // namespace engram
