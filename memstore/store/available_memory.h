// How much memory this process may still take: the machine's, and that of the control groups it is
// in.
//
// Stateless, thread-safe. Cost: a few small files of the kernel's.
#pragma once

#include <cstdint>
#include <string>

namespace engram {

struct AvailableMemory {
  uint64_t bytes = UINT64_MAX;  // when nothing says otherwise
  std::string limited_by;       // for messages: "the machine's memory", "the control group /a/b"
};

// Page cache counts as available: the kernel gives it up when memory is asked for. `root` stands
// before every path (tests).
AvailableMemory ReadAvailableMemory(const std::string& root = "");

// The most that it could have if nobody else took any: the machine's memory, or a control group's
// limit. `bytes` is of memory that is not set aside.
AvailableMemory ReadMemoryLimit(const std::string& root = "");
// Huge pages that were set aside, taken ones too, which control groups' limits do not count.
uint64_t ReadReservedHugePageBytes(const std::string& root = "");

}  // namespace engram
