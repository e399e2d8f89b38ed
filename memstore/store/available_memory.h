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

}  // namespace engram
