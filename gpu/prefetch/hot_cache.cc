#include "gpu/prefetch/hot_cache.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gpu/kernels/copy_groups.h"
#include "memstore/base/clock.h"

namespace engram {
namespace {

// A device that takes longer for a few copies is gone.
constexpr absl::Duration kListTime = absl::Seconds(10);

}  // namespace

absl::StatusOr<std::unique_ptr<HotCache>> HotCache::Create(const HotCacheOptions& options,
                                                           Device& device) {
  const uint64_t place_bytes = uint64_t{options.group_rows} * options.row_bytes;
  if (place_bytes == 0 || options.max_groups == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a hot cache of ", options.group_rows, " rows of ", options.row_bytes,
                     " bytes a group and ", options.max_groups,
                     " groups a call: a group has a row at least, a call one group at least"));
  }
  absl::StatusOr<HotCacheIndex> index =
      HotCacheIndex::Create(options.bytes / place_bytes, options.group_rows);
  if (!index.ok()) return index.status();
  std::unique_ptr<HotCache> cache(new HotCache(options, *std::move(index)));
  cache->given_.resize(cache->groups());
  absl::StatusOr<DeviceBuffer> rows =
      device.Allocate(MemoryKind::kDevice, cache->groups() * place_bytes);
  if (!rows.ok()) return rows.status();
  cache->rows_ = *std::move(rows);
  for (List& list : cache->lists_) {
    absl::StatusOr<DeviceBuffer> memory = device.Allocate(
        MemoryKind::kPinnedHost, uint64_t{3} * options.max_groups * sizeof(uint32_t));
    if (!memory.ok()) return memory.status();
    list.memory = *std::move(memory);
    list.from_at = list.memory.as<uint32_t>();
    list.to_at = list.from_at + options.max_groups;
    list.rows = list.to_at + options.max_groups;
    absl::StatusOr<std::unique_ptr<Event>> done = device.MakeEvent();
    if (!done.ok()) return done.status();
    list.done = *std::move(done);
  }
  return cache;
}

absl::Status HotCache::Check(absl::Span<const uint32_t> groups,
                             absl::Span<const RowId> row_ids) const {
  if (!broken_.ok()) return broken_;
  uint64_t token_rows = 0;
  bool fit = true;
  for (const uint32_t rows : groups) {
    fit = fit && rows >= 1 && rows <= options_.group_rows;
    token_rows += rows;
  }
  if (fit && token_rows > 0 && row_ids.size() % token_rows == 0 &&
      row_ids.size() / token_rows * groups.size() <= options_.max_groups) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(row_ids.size(), " row ids in groups of ", absl::StrJoin(groups, ", "),
                   " a token: whole tokens, groups of 1 to ", options_.group_rows,
                   " rows, at most ", options_.max_groups, " of them at once"));
}

absl::StatusOr<HotCache::List*> HotCache::NextList() {
  List& list = lists_[next_list_++ % kLists];
  if (list.used) {
    if (absl::Status status = list.done->Wait(RealClock().Now() + kListTime); !status.ok())
      return status;
  }
  list.count = 0;
  return &list;
}

absl::Status HotCache::Copy(List& list, const std::byte* from, uint64_t from_stride, std::byte* to,
                            uint64_t to_stride, Stream& stream) {
  if (list.count == 0) return absl::OkStatus();
  const CopyGroupsArguments arguments{.from = from,
                                      .to = to,
                                      .from_at = list.from_at,
                                      .to_at = list.to_at,
                                      .rows = list.rows,
                                      .from_stride = from_stride,
                                      .to_stride = to_stride,
                                      .row_bytes = options_.row_bytes,
                                      .groups = list.count};
  absl::Status status = EnqueueCopyGroups(arguments, stream);
  if (!status.ok()) return status;
  list.used = true;
  return stream.Record(*list.done);
}

absl::Status HotCache::Lookup(uint32_t layer, absl::Span<const uint32_t> groups,
                              absl::Span<const RowId> row_ids, std::byte* to, Stream& stream,
                              std::vector<RowGroup>* missing) {
  missing->clear();
  if (absl::Status status = Check(groups, row_ids); !status.ok()) return status;
  absl::StatusOr<List*> next = NextList();
  if (!next.ok()) return next.status();
  List& list = **next;
  for (uint32_t first = 0; first < row_ids.size();) {
    for (const uint32_t rows : groups) {
      const uint32_t place = index_.Find(layer, row_ids.subspan(first, rows));
      if (place == HotCacheIndex::kMiss) {
        missing->push_back({first, rows});
      } else {
        list.from_at[list.count] = place;
        list.to_at[list.count] = first;
        list.rows[list.count++] = rows;
      }
      first += rows;
    }
  }
  hits_ += list.count;
  misses_ += missing->size();
  return Copy(list, rows_.data(), place_bytes_, to, options_.row_bytes, stream);
}

absl::Status HotCache::Keep(uint32_t layer, absl::Span<const RowId> row_ids,
                            absl::Span<const RowGroup> missing, const std::byte* from,
                            Stream& stream) {
  if (!broken_.ok()) return broken_;
  absl::StatusOr<List*> next = NextList();
  if (!next.ok()) return broken_ = next.status();
  List& list = **next;
  const uint64_t call = uint64_t{++calls_} << 32;
  for (const RowGroup& group : missing) {
    if (group.rows < 1 || group.rows > options_.group_rows || group.first > row_ids.size() ||
        group.rows > row_ids.size() - group.first || list.count == options_.max_groups) {
      return broken_ = absl::InvalidArgumentError(
                 absl::StrCat("a group of ", group.rows, " rows from ", group.first,
                              " on is said to be missing, of ", row_ids.size(), " rows"));
    }
    const uint32_t place = index_.Admit(layer, row_ids.subspan(group.first, group.rows));
    if (place == HotCacheIndex::kMiss) continue;
    // The index holds the last group that was given the place: its rows alone may go there.
    uint32_t at = static_cast<uint32_t>(given_[place]);
    if (given_[place] >> 32 != calls_) {
      at = list.count++;
      given_[place] = call | at;
    }
    list.from_at[at] = group.first;
    list.to_at[at] = place;
    list.rows[at] = group.rows;
  }
  // What the index says by now has to be there.
  return broken_ = Copy(list, from, options_.row_bytes, rows_.data(), place_bytes_, stream);
}

}  // namespace engram
