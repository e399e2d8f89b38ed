// For tests of what must not allocate: a binary that links this counts every allocation of all its
// threads.
#pragma once

#include <cstdint>

namespace engram::testing {

// Since the process began. Memory that runs out ends the process.
uint64_t Allocations();

}  // namespace engram::testing
