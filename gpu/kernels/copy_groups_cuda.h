// The kernel of copy_groups.h. "" when launched, else why not.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engram {

// Group i has rows[i] rows that lie together; they go from from + from_at[i] * from_stride to to +
// to_at[i] * to_stride. All is device or pinned memory; addresses are aligned as rows are, to the
// largest power of two up to 8 that divides row_bytes, of which strides are multiples.
struct CopyGroupsArguments {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  const uint32_t* from_at = nullptr;  // [groups]
  const uint32_t* to_at = nullptr;    // [groups]
  const uint32_t* rows = nullptr;     // [groups]
  uint64_t from_stride = 0;           // bytes
  uint64_t to_stride = 0;             // bytes
  uint32_t row_bytes = 0;
  uint32_t groups = 0;
};

const char* LaunchCopyGroups(const CopyGroupsArguments& arguments, void* stream);

}  // namespace engram
