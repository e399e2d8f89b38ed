// Rows that are asked for again and again, kept in device memory by n-gram: a step's groups (all
// heads of one order at one position, or those that a slice has of them) are looked for here first,
// each with one look-up, and what is missing is fetched and may be kept (hot_cache_index.h).
//
//   cache->Lookup(layer, groups, row_ids, to, stream, &missing);  // hits are on their way
//   ... fetch the rows of the groups in `missing` to their places among the others, at `to` ...
//   cache->Keep(layer, row_ids, missing, to, stream);  // may be found from the next Lookup on
//
// Groups of a layer may differ in size; a place has room for the largest one.
//
// Exact: rows of a table set never change, and all row ids of a group are compared. A cache belongs
// to one table set (its manifest id is the caller's to hold it by), one thread and one stream: a
// place is given to another group only behind the copies out of it. Nothing allocates after Create.
// Cost: one hash a group on the host, one copy a hit on the device.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "gpu/device/device.h"
#include "memstore/cache/hot_cache_index.h"

namespace engram {

struct HotCacheOptions {
  uint64_t bytes = 0;       // of rows
  uint32_t group_rows = 0;  // of the largest group
  uint32_t row_bytes = 0;
  uint32_t max_groups = 0;  // of one Lookup: tokens * orders
};

// Some of a call's row ids and rows: first..first+rows-1.
struct RowGroup {
  uint32_t first = 0;
  uint32_t rows = 0;
};

class HotCache {
 public:
  // INVALID_ARGUMENT: options that are no cache; RESOURCE_EXHAUSTED: no memory.
  static absl::StatusOr<std::unique_ptr<HotCache>> Create(const HotCacheOptions& options,
                                                          Device& device);

  // `row_ids` are those of whole tokens, each of which has groups of `groups` rows. Enqueues, for
  // each group that is kept, the copy of its rows to where they belong among all of the call's, row
  // i at to + i * row_bytes, and puts the others into `missing`. INVALID_ARGUMENT: more than
  // max_groups, ids that are no whole tokens, or a group of no rows or more than group_rows.
  absl::Status Lookup(uint32_t layer, absl::Span<const uint32_t> groups,
                      absl::Span<const RowId> row_ids, std::byte* to, Stream& stream,
                      std::vector<RowGroup>* missing);
  // The same row ids, and what Lookup said is missing: once the stream gets there, its rows lie
  // among all of the call's at `from` (device memory). Not for rows that failed to come. An error
  // makes the cache one that finds nothing: Lookup and Keep return it from then on.
  absl::Status Keep(uint32_t layer, absl::Span<const RowId> row_ids,
                    absl::Span<const RowGroup> missing, const std::byte* from, Stream& stream);

  uint64_t groups() const { return index_.places(); }
  uint64_t hits() const { return hits_; }
  uint64_t misses() const { return misses_; }

 private:
  // From where to where, for one call's copies; used again when the device is done with it.
  struct List {
    DeviceBuffer memory;  // pinned
    uint32_t* from_at = nullptr;
    uint32_t* to_at = nullptr;
    uint32_t* rows = nullptr;
    std::unique_ptr<Event> done;
    bool used = false;
    uint32_t count = 0;
  };
  // Lookup and Keep of two layers of the step before may still be under way.
  static constexpr size_t kLists = 8;

  HotCache(const HotCacheOptions& options, HotCacheIndex index)
      : options_(options),
        index_(std::move(index)),
        place_bytes_(uint64_t{options.group_rows} * options.row_bytes) {}
  absl::Status Check(absl::Span<const uint32_t> groups, absl::Span<const RowId> row_ids) const;
  absl::StatusOr<List*> NextList();
  absl::Status Copy(List& list, const std::byte* from, uint64_t from_stride, std::byte* to,
                    uint64_t to_stride, Stream& stream);

  const HotCacheOptions options_;
  HotCacheIndex index_;
  const uint64_t place_bytes_;
  DeviceBuffer rows_;
  std::array<List, kLists> lists_;
  size_t next_list_ = 0;
  // Where in its call's list a place was last given away, below the call's number: a place that is
  // given away twice in one call is written once.
  std::vector<uint64_t> given_;
  uint32_t calls_ = 0;
  absl::Status broken_;
  uint64_t hits_ = 0, misses_ = 0;
};

}  // namespace engram
