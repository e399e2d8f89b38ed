// The kernel of copy_groups.h. "" when launched, else why not.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engram {

// Group i goes from from + from_at[i] * from_stride to to + to_at[i] * to_stride. All is device or
// pinned memory; sizes are multiples of 8.
struct CopyGroupsArguments {
  const std::byte* from = nullptr;
  std::byte* to = nullptr;
  const uint32_t* from_at = nullptr;  // [groups]; null: one after the other
  const uint32_t* to_at = nullptr;    // [groups]
  uint64_t from_stride = 0;           // bytes
  uint64_t to_stride = 0;             // bytes
  uint32_t group_bytes = 0;
  uint32_t groups = 0;
};

const char* LaunchCopyGroups(const CopyGroupsArguments& arguments, void* stream);

}  // namespace engram
