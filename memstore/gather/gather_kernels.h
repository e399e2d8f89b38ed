// The kernels behind Gather, one for each row width, id width and instruction set. For gather.cc,
// its tests and its benchmark; everything else calls gather.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "memstore/gather/gather.h"

namespace engram::gather_internal {

inline constexpr size_t kCacheLineBytes = 64;

enum class InstructionSet { kSse2, kAvx2, kAvx512 };

// Rows that land one after the other: where the next one does, and when the next group begins. One
// group alone: rows_left never runs out.
struct LandingCursor {
  std::byte* at = nullptr;
  uint64_t rows_left = UINT64_MAX;  // in this group
  uint64_t group_rows = UINT64_MAX;
  uint64_t gap_bytes = 0;  // from the end of a group's rows to the next group
};

// Rows that land at listed places.
struct ListedPlaces {
  std::byte* data = nullptr;
  const uint32_t* next = nullptr;  // the next row's place
  uint32_t group_rows = 0;         // 0: no groups, or one that holds every place
  uint64_t group_stride_bytes = 0;
};

// Copies rows ids[0..count) to the cursor's places, each prefetched `distance` rows ahead (>= 1).
template <typename Id, typename Cursor = LandingCursor>
using Kernel = void (*)(const GatherTable& table, const Id* ids, size_t count, Cursor landing,
                        size_t distance);

// The best set that this machine's processor and operating system have. Cost: a few loads.
InstructionSet BestInstructionSet();

// The kernel for the width: one with the width built in where it is common, else the one for any
// width.
template <typename Id, typename Cursor = LandingCursor>
Kernel<Id, Cursor> FindKernel(InstructionSet set, uint32_t row_bytes);

// Rows to prefetch ahead where nothing was measured.
size_t PrefetchDistance(uint32_t row_bytes);

// One for each instruction set, in a file each (gather_sse2.cc and so on).
template <typename Id, typename Cursor>
Kernel<Id, Cursor> FindSse2Kernel(uint32_t row_bytes);
template <typename Id, typename Cursor>
Kernel<Id, Cursor> FindAvx2Kernel(uint32_t row_bytes);
template <typename Id, typename Cursor>
Kernel<Id, Cursor> FindAvx512Kernel(uint32_t row_bytes);

}  // namespace engram::gather_internal
