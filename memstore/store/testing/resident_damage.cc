#include "memstore/store/testing/resident_damage.h"

#include <sys/mman.h>

#include "gtest/gtest.h"

namespace engram::testing {

void FlipResidentBit(const TableSet& set, size_t layer, uint64_t at) {
  const Arena& arena = set.arena(layer);
  ASSERT_LT(at, arena.bytes());
  ASSERT_EQ(mprotect(arena.data(), arena.bytes(), PROT_READ | PROT_WRITE), 0);
  arena.data()[at] ^= std::byte{1};
  ASSERT_EQ(mprotect(arena.data(), arena.bytes(), PROT_READ), 0);
}

}  // namespace engram::testing
