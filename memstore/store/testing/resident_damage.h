// For tests of what finds damage in memory: changes a byte of a loaded set, as failing memory
// would.
#pragma once

#include <cstdint>

#include "memstore/store/table_set.h"

namespace engram::testing {

// Changes one bit of byte `at` of layer number `layer`'s rows and padding, or changes it back; the
// memory is read-only again afterwards. Shareable sets too: their clients see it. Nobody may be
// reading it at that time where a thread checker watches.
void FlipResidentBit(const TableSet& set, size_t layer, uint64_t at);

}  // namespace engram::testing
