#include "memstore/gather/gather.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "memstore/gather/gather_kernels.h"

namespace engram {
namespace gather_internal {

InstructionSet BestInstructionSet() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl")) {
    return InstructionSet::kAvx512;
  }
  return __builtin_cpu_supports("avx2") ? InstructionSet::kAvx2 : InstructionSet::kSse2;
}

template <typename Id, typename Cursor>
Kernel<Id, Cursor> FindKernel(InstructionSet set, uint32_t row_bytes) {
  switch (set) {
    case InstructionSet::kAvx512:
      return FindAvx512Kernel<Id, Cursor>(row_bytes);
    case InstructionSet::kAvx2:
      return FindAvx2Kernel<Id, Cursor>(row_bytes);
    case InstructionSet::kSse2:
      break;
  }
  return FindSse2Kernel<Id, Cursor>(row_bytes);
}
template Kernel<uint32_t> FindKernel<uint32_t>(InstructionSet, uint32_t);
template Kernel<uint64_t> FindKernel<uint64_t>(InstructionSet, uint32_t);
template Kernel<uint32_t, ListedPlaces> FindKernel<uint32_t, ListedPlaces>(InstructionSet,
                                                                           uint32_t);
template Kernel<uint64_t, ListedPlaces> FindKernel<uint64_t, ListedPlaces>(InstructionSet,
                                                                           uint32_t);

size_t PrefetchDistance(uint32_t row_bytes) {
  // Far enough to hide a miss and a page walk, near enough that what was prefetched is still in the
  // first cache (32 KiB and more) when it is copied. From the sweep of gather_compare: flat from 8
  // to 20 rows.
  constexpr size_t kAheadBytes = 3200;
  constexpr size_t kMinRows = 2;
  constexpr size_t kMaxRows = 16;
  const size_t rows = kAheadBytes / row_bytes;
  return rows < kMinRows ? kMinRows : rows > kMaxRows ? kMaxRows : rows;
}

namespace {

LandingCursor CursorAt(const Landing& landing, uint32_t row_bytes, size_t first) {
  const LandingShape shape = landing.shape();
  LandingCursor cursor;
  cursor.at = landing.data + shape.OffsetOf(first, row_bytes);
  if (shape.group_rows == 0) return cursor;
  cursor.rows_left = shape.RunRows(first);
  cursor.group_rows = shape.group_rows;
  cursor.gap_bytes = shape.group_stride_bytes - shape.group_rows * row_bytes;
  return cursor;
}

ListedPlaces PlacesAt(const Landing& landing, size_t first) {
  ListedPlaces places{.data = landing.data, .next = landing.places.data() + first};
  if (landing.group_rows > std::numeric_limits<uint32_t>::max()) return places;
  places.group_rows = static_cast<uint32_t>(landing.group_rows);
  places.group_stride_bytes = landing.group_stride_bytes;
  return places;
}

// Non-zero when an id is not one of the table's. No branch in the loops, so that they become vector
// code: subtracted from, unsigned, ids below the first row are large.
bool AnyOutside(const GatherTable& table, absl::Span<const uint32_t> ids) {
  constexpr uint64_t kIds = uint64_t{1} << 32;  // that there are
  if (ids.empty()) return false;
  if (table.first_row >= kIds) return true;
  const uint64_t rows = std::min(table.rows, kIds - table.first_row);
  if (rows == kIds) return false;
  const auto first = static_cast<uint32_t>(table.first_row);
  uint32_t largest = 0;
  for (const uint32_t id : ids) largest = std::max(largest, id - first);
  return largest >= rows;
}

bool AnyOutside(const GatherTable& table, absl::Span<const uint64_t> ids) {
  // There is no unsigned 64-bit compare before AVX-512, but the sign bits tell: with first + rows
  // at most 2^63, one is set in `id - first` or in `rows - 1 - (id - first)` exactly when the id is
  // outside.
  uint64_t signs = 0;
  const uint64_t first = table.first_row;
  const uint64_t last = table.rows - 1;
  for (const uint64_t id : ids) signs |= (id - first) | (last - (id - first));
  return (signs >> 63) != 0;
}

}  // namespace
}  // namespace gather_internal

template <typename Id>
absl::Status CheckRowIds(const GatherTable& table, absl::Span<const Id> ids) {
  if (!gather_internal::AnyOutside(table, ids)) return absl::OkStatus();
  size_t index = 0;
  while (uint64_t{ids[index]} - table.first_row < table.rows) ++index;
  std::string message = absl::StrCat("row id ", ids[index], " at index ", index, " is outside ");
  if (table.first_row == 0) {
    absl::StrAppend(&message, "the table, which has ", table.rows,
                    " rows; address with the scheme of the table set that is asked");
  } else {
    absl::StrAppend(&message, "what is held here of the table, which is rows ", table.first_row,
                    " to ", table.first_row + table.rows,
                    " (the last one not counted); ask who "
                    "holds it");
  }
  return absl::InvalidArgumentError(message);
}
template absl::Status CheckRowIds<uint32_t>(const GatherTable&, absl::Span<const uint32_t>);
template absl::Status CheckRowIds<uint64_t>(const GatherTable&, absl::Span<const uint64_t>);

template <typename Id>
void GatherRange(const GatherTable& table, absl::Span<const Id> ids, size_t first, size_t count,
                 const Landing& landing) {
  using namespace gather_internal;  // NOLINT: the kernels are this file's own
  static const InstructionSet kSet = BestInstructionSet();
  const uint32_t row_bytes = table.row_bytes;
  const size_t distance = table.ahead_rows != 0 ? table.ahead_rows : PrefetchDistance(row_bytes);
  if (landing.places.empty()) {
    FindKernel<Id>(kSet, row_bytes)(table, ids.data() + first, count,
                                    CursorAt(landing, row_bytes, first), distance);
  } else {
    FindKernel<Id, ListedPlaces>(kSet, row_bytes)(table, ids.data() + first, count,
                                                  PlacesAt(landing, first), distance);
  }
}
template void GatherRange<uint32_t>(const GatherTable&, absl::Span<const uint32_t>, size_t, size_t,
                                    const Landing&);
template void GatherRange<uint64_t>(const GatherTable&, absl::Span<const uint64_t>, size_t, size_t,
                                    const Landing&);

template <typename Id>
void Gather(const GatherTable& table, absl::Span<const Id> ids, const Landing& landing) {
  GatherRange(table, ids, 0, ids.size(), landing);
}
template void Gather<uint32_t>(const GatherTable&, absl::Span<const uint32_t>, const Landing&);
template void Gather<uint64_t>(const GatherTable&, absl::Span<const uint64_t>, const Landing&);

}  // namespace engram
