#include "memstore/store/resident_pages.h"

#include <sys/mman.h>

#include <cstring>
#include <sstream>

#include "gtest/gtest.h"

namespace engram {
namespace {

constexpr uint64_t kKib = 1024;
constexpr uint64_t kMib = 1024 * kKib;

// As Linux 6.18 writes it, lines that are of no account cut down.
constexpr char kText[] =
    R"(7f0000000000-7f0000800000 r--s 00000000 00:01 3 /memfd:engram-table (deleted)
Size:               8192 kB
KernelPageSize:        4 kB
Rss:                8000 kB
Pss:                8000 kB
AnonHugePages:         0 kB
ShmemPmdMapped:     6144 kB
FilePmdMapped:         0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:       0 kB
THPeligible:           1
VmFlags: rd sh mr mw me ms hg
7f0000800000-7f0000a00000 r--p 00000000 00:00 0
Rss:                2048 kB
AnonHugePages:      2048 kB
ShmemPmdMapped:        0 kB
7f0000a00000-7f0000e00000 r--s 00000000 00:0f 4 /memfd:engram-table (deleted)
Rss:                   0 kB
Shared_Hugetlb:     2048 kB
Private_Hugetlb:    2048 kB
7f0001000000-7f0001800000 r--p 00000000 00:00 0
Rss:                8192 kB
AnonHugePages:      4096 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
Rss:                   4 kB
)";

std::vector<ResidentPages> Count(const std::vector<AddressRange>& ranges) {
  std::istringstream text(kText);
  return CountResidentPages(text, ranges);
}

void Expect(const ResidentPages& pages, uint64_t hugetlb, uint64_t transparent_huge,
            uint64_t small) {
  EXPECT_EQ(pages.hugetlb, hugetlb);
  EXPECT_EQ(pages.transparent_huge, transparent_huge);
  EXPECT_EQ(pages.small, small);
  EXPECT_EQ(pages.Total(), hugetlb + transparent_huge + small);
}

TEST(ResidentPages, EachKindIsCountedByItself) {
  const auto pages = Count({{0x7f0000000000, 0x7f0000800000},
                            {0x7f0000800000, 0x7f0000a00000},
                            {0x7f0000a00000, 0x7f0000e00000}});
  ASSERT_EQ(pages.size(), 3u);
  Expect(pages[0], 0, 6144 * kKib, (8000 - 6144) * kKib);
  Expect(pages[1], 0, 2 * kMib, 0);
  Expect(pages[2], 4 * kMib, 0, 0);
}

TEST(ResidentPages, TwoThatTheKernelJoinedShareWhatItCounts) {
  const auto pages = Count({{0x7f0001000000, 0x7f0001200000}, {0x7f0001200000, 0x7f0001800000}});
  Expect(pages[0], 0, 1 * kMib, 1 * kMib);
  Expect(pages[1], 0, 3 * kMib, 3 * kMib);
}

TEST(ResidentPages, OneInSeveralMappingsHasTheSum) {
  const auto pages = Count({{0x7f0000000000, 0x7f0000e00000}});
  Expect(pages[0], 4 * kMib, 6144 * kKib + 2 * kMib, (8000 - 6144) * kKib);
}

TEST(ResidentPages, WhatIsNotMappedHasNone) {
  Expect(Count({{0x1000, 0x2000}})[0], 0, 0, 0);
  EXPECT_TRUE(Count({}).empty());
}

TEST(ResidentPages, TextThatIsNoneOfItsIsPassedOver) {
  std::istringstream text("Rss: 4 kB\n\nRss\nzz-yy x\n1000-2000\nRss: many kB\nRss: 4 kB");
  Expect(CountResidentPages(text, {{0x1000, 0x2000}})[0], 0, 0, 4096);
}

TEST(ResidentPages, SumsAreByKind) {
  ResidentPages sum{1, 2, 3};
  sum += {10, 20, 30};
  Expect(sum, 11, 22, 33);
}

TEST(ResidentPages, TheKernelCountsMemoryThatWasTouched) {
  constexpr uint64_t kBytes = 8 * kMib;
  void* const memory =
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  // Of other flags than its neighbours', so that it is not joined with one.
  ASSERT_EQ(madvise(memory, kBytes, MADV_DONTDUMP), 0);
  madvise(memory, kBytes, MADV_NOHUGEPAGE);
  std::memset(memory, 1, 3 * kMib);
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  const auto pages = ReadResidentPages({{begin, begin + kBytes}});
  munmap(memory, kBytes);
  if (!pages.ok()) GTEST_SKIP() << pages.status();
  Expect((*pages)[0], 0, 0, 3 * kMib);
}

}  // namespace
}  // namespace engram
