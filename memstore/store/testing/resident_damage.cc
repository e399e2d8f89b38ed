#include "memstore/store/testing/resident_damage.h"

#include <sys/mman.h>

#include "gtest/gtest.h"

namespace engram::testing {

void FlipResidentBit(const TableSet& set, size_t layer, uint64_t at) {
  const Arena& arena = set.arena(layer);
  ASSERT_LT(at, arena.bytes());
  // The page alone: what is beside it may be a hole.
  const uint64_t page_bytes = arena.page_kind() == PageKind::kHugetlb2M ? kHugePageBytes : 4096;
  std::byte* const page = arena.data() + at / page_bytes * page_bytes;
  ASSERT_EQ(mprotect(page, page_bytes, PROT_READ | PROT_WRITE), 0);
  arena.data()[at] ^= std::byte{1};
  ASSERT_EQ(mprotect(page, page_bytes, PROT_READ), 0);
}

}  // namespace engram::testing
