// What the kernel says that this process takes of memory.
//
// Stateless, thread-safe. Cost: one small file of /proc, some microseconds; nothing is allocated.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace engram {

struct MemoryOfProcess {
  uint64_t virtual_bytes = 0;   // of its address space
  uint64_t resident_bytes = 0;  // reserved huge pages left out, as the kernel does
};

// Zeros where /proc is not there.
MemoryOfProcess ReadProcessMemory();
// Of the text of /proc/self/statm; what is none has zeros.
MemoryOfProcess ParseProcessMemory(absl::string_view text, uint64_t page_bytes);

}  // namespace engram
