#include "gpu/prefetch/hot_cache.h"

#include "absl/strings/str_cat.h"
#include "gpu/kernels/copy_groups.h"
#include "memstore/base/clock.h"

namespace engram {
namespace {

// A device that takes longer for a few copies is gone.
constexpr absl::Duration kListTime = absl::Seconds(10);

}  // namespace

absl::StatusOr<std::unique_ptr<HotCache>> HotCache::Create(const HotCacheOptions& options,
                                                           Device& device) {
  const uint64_t group_bytes = uint64_t{options.heads} * options.row_bytes;
  if (group_bytes == 0 || group_bytes % 8 != 0 || options.max_groups == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a hot cache of ", options.heads, " rows of ", options.row_bytes, " bytes a group and ",
        options.max_groups,
        " groups a call: a group is a multiple of 8 bytes, a call one group at least"));
  }
  absl::StatusOr<HotCacheIndex> index =
      HotCacheIndex::Create(options.bytes / group_bytes, options.heads);
  if (!index.ok()) return index.status();
  std::unique_ptr<HotCache> cache(new HotCache(options, *std::move(index)));
  cache->given_.resize(cache->groups());
  absl::StatusOr<DeviceBuffer> rows =
      device.Allocate(MemoryKind::kDevice, cache->groups() * group_bytes);
  if (!rows.ok()) return rows.status();
  cache->rows_ = *std::move(rows);
  for (List& list : cache->lists_) {
    absl::StatusOr<DeviceBuffer> memory = device.Allocate(
        MemoryKind::kPinnedHost, uint64_t{2} * options.max_groups * sizeof(uint32_t));
    if (!memory.ok()) return memory.status();
    list.memory = *std::move(memory);
    list.from_at = list.memory.as<uint32_t>();
    list.to_at = list.from_at + options.max_groups;
    absl::StatusOr<std::unique_ptr<Event>> done = device.MakeEvent();
    if (!done.ok()) return done.status();
    list.done = *std::move(done);
  }
  return cache;
}

absl::Status HotCache::Check(absl::Span<const RowId> row_ids) const {
  if (!broken_.ok()) return broken_;
  if (row_ids.size() % options_.heads == 0 &&
      row_ids.size() / options_.heads <= options_.max_groups) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(row_ids.size(), " row ids: whole groups of ",
                                                 options_.heads, ", at most ", options_.max_groups,
                                                 " of them at once"));
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
                                      .from_stride = from_stride,
                                      .to_stride = to_stride,
                                      .group_bytes = group_bytes_,
                                      .groups = list.count};
  absl::Status status = EnqueueCopyGroups(arguments, stream);
  if (!status.ok()) return status;
  list.used = true;
  return stream.Record(*list.done);
}

absl::Status HotCache::Lookup(uint32_t layer, absl::Span<const RowId> row_ids, std::byte* to,
                              uint64_t stride, Stream& stream, std::vector<uint32_t>* missing) {
  missing->clear();
  if (absl::Status status = Check(row_ids); !status.ok()) return status;
  absl::StatusOr<List*> list = NextList();
  if (!list.ok()) return list.status();
  const auto groups = static_cast<uint32_t>(row_ids.size() / options_.heads);
  for (uint32_t group = 0; group < groups; ++group) {
    const uint32_t place =
        index_.Find(layer, row_ids.subspan(uint64_t{group} * options_.heads, options_.heads));
    if (place == HotCacheIndex::kMiss) {
      missing->push_back(group);
      continue;
    }
    (*list)->from_at[(*list)->count] = place;
    (*list)->to_at[(*list)->count++] = group;
  }
  hits_ += (*list)->count;
  misses_ += missing->size();
  return Copy(**list, rows_.data(), group_bytes_, to, stride, stream);
}

absl::Status HotCache::Keep(uint32_t layer, absl::Span<const RowId> row_ids,
                            absl::Span<const uint32_t> missing, const std::byte* from,
                            uint64_t stride, Stream& stream) {
  if (absl::Status status = Check(row_ids); !status.ok()) return status;
  absl::StatusOr<List*> list = NextList();
  if (!list.ok()) return broken_ = list.status();
  const uint64_t call = uint64_t{++calls_} << 32;
  for (const uint32_t group : missing) {
    if ((uint64_t{group} + 1) * options_.heads > row_ids.size()) {
      return broken_ = absl::InvalidArgumentError(absl::StrCat(
                 "group ", group, " is said to be missing, of ", row_ids.size() / options_.heads));
    }
    const absl::Span<const RowId> ids =
        row_ids.subspan(uint64_t{group} * options_.heads, options_.heads);
    const uint32_t place = index_.Admit(layer, ids);
    if (place == HotCacheIndex::kMiss) continue;
    // The index holds the last group that was given the place: its rows alone may go there.
    if (given_[place] >> 32 == calls_) {
      (*list)->from_at[static_cast<uint32_t>(given_[place])] = group;
      continue;
    }
    given_[place] = call | (*list)->count;
    (*list)->from_at[(*list)->count] = group;
    (*list)->to_at[(*list)->count++] = place;
  }
  // What the index says by now has to be there.
  return broken_ = Copy(**list, from, stride, rows_.data(), group_bytes_, stream);
}

}  // namespace engram
