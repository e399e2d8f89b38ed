#include "memstore/gather/gather.h"

#include <limits>

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

template <typename Id>
Kernel<Id> FindKernel(InstructionSet set, uint32_t row_bytes) {
  switch (set) {
    case InstructionSet::kAvx512:
      return FindAvx512Kernel<Id>(row_bytes);
    case InstructionSet::kAvx2:
      return FindAvx2Kernel<Id>(row_bytes);
    case InstructionSet::kSse2:
      break;
  }
  return FindSse2Kernel<Id>(row_bytes);
}
template Kernel<uint32_t> FindKernel<uint32_t>(InstructionSet, uint32_t);
template Kernel<uint64_t> FindKernel<uint64_t>(InstructionSet, uint32_t);

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
  LandingCursor cursor;
  if (landing.group_rows == 0) {
    cursor.at = landing.data + first * row_bytes;
    return cursor;
  }
  const uint64_t group = first == 0 ? 0 : first / landing.group_rows;
  const uint64_t in_group = first - group * landing.group_rows;
  cursor.at = landing.data + group * landing.group_stride_bytes + in_group * row_bytes;
  cursor.rows_left = landing.group_rows - in_group;
  cursor.group_rows = landing.group_rows;
  cursor.gap_bytes = landing.group_stride_bytes - landing.group_rows * row_bytes;
  return cursor;
}

// Non-zero when an id is not below `rows`. No branch in the loop, so that it becomes vector code.
bool AnyAtOrAbove(uint64_t rows, absl::Span<const uint32_t> ids) {
  if (rows > std::numeric_limits<uint32_t>::max()) return false;
  uint32_t largest = 0;
  for (const uint32_t id : ids) largest = largest < id ? id : largest;
  return !ids.empty() && largest >= rows;
}

bool AnyAtOrAbove(uint64_t rows, absl::Span<const uint64_t> ids) {
  // There is no unsigned 64-bit compare before AVX-512, but the sign bits tell: rows is below 2^63,
  // so it is set in `id` or in `rows - 1 - id` exactly when id >= rows.
  uint64_t signs = 0;
  const uint64_t last = rows - 1;
  for (const uint64_t id : ids) signs |= id | (last - id);
  return (signs >> 63) != 0;
}

}  // namespace
}  // namespace gather_internal

template <typename Id>
absl::Status CheckRowIds(const GatherTable& table, absl::Span<const Id> ids) {
  if (!gather_internal::AnyAtOrAbove(table.rows, ids)) return absl::OkStatus();
  size_t index = 0;
  while (ids[index] < table.rows) ++index;
  return absl::InvalidArgumentError(
      absl::StrCat("row id ", ids[index], " at index ", index, " is outside the table, which has ",
                   table.rows, " rows; address with the scheme of the table set that is asked"));
}
template absl::Status CheckRowIds<uint32_t>(const GatherTable&, absl::Span<const uint32_t>);
template absl::Status CheckRowIds<uint64_t>(const GatherTable&, absl::Span<const uint64_t>);

template <typename Id>
void GatherRange(const GatherTable& table, absl::Span<const Id> ids, size_t first, size_t count,
                 const Landing& landing) {
  using namespace gather_internal;  // NOLINT: the kernels are this file's own
  static const InstructionSet kSet = BestInstructionSet();
  const uint32_t row_bytes = table.row_bytes;
  FindKernel<Id>(kSet, row_bytes)(table, ids.data() + first, count,
                                  CursorAt(landing, row_bytes, first), PrefetchDistance(row_bytes));
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
