#include "memstore/store/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

constexpr uint64_t kMib = 1 << 20;

void ConfirmPageKind(Arena& arena) {
  const auto pages = ReadResidentPages({arena.range()});
  ASSERT_TRUE(pages.ok()) << pages.status();
  arena.ConfirmPageKind(pages->front());
}

uint64_t ResidentBytes() {
  FILE* const file = std::fopen("/proc/self/statm", "r");
  uint64_t size = 0;
  uint64_t resident = 0;
  EXPECT_EQ(std::fscanf(file, "%lu %lu", &size, &resident), 2);
  std::fclose(file);
  return resident * sysconf(_SC_PAGESIZE);
}

TEST(ArenaTest, IsAlignedZeroAndAsLongAsAsked) {
  for (const bool transparent : {false, true}) {
    ArenaOptions options;
    options.try_transparent_huge = transparent;
    auto arena = Arena::Map(5 * kMib + 1, options);
    ASSERT_TRUE(arena.ok()) << arena.status();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(arena->data()) % (2 * kMib), 0u);
    EXPECT_GE(arena->bytes(), 5 * kMib + 1);
    EXPECT_EQ(arena->bytes() % 4096, 0u);
    EXPECT_TRUE(std::all_of(arena->data(), arena->data() + arena->bytes(),
                            [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST(ArenaTest, WithoutHugePagesItHasSmallOnes) {
  ArenaOptions options;
  options.try_hugetlb = false;
  options.try_transparent_huge = false;
  auto arena = Arena::Map(3 * kMib, options);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ(arena->page_kind(), PageKind::kSmall);
  EXPECT_EQ(arena->bytes(), 3 * kMib);
}

TEST(ArenaTest, PopulateMakesItsRangeResidentAndNoMore) {
  ArenaOptions options;
  options.try_hugetlb = false;
  options.try_transparent_huge = false;
  auto arena = Arena::Map(64 * kMib, options);
  ASSERT_TRUE(arena.ok()) << arena.status();
  const uint64_t before = ResidentBytes();
  ASSERT_TRUE(arena->Populate(8 * kMib, 16 * kMib).ok());
  const uint64_t grown = ResidentBytes() - before;
  EXPECT_GE(grown, 15 * kMib);  // the kernel counts in lots of pages
  EXPECT_LE(grown, 20 * kMib);
}

TEST(ArenaTest, PopulateKeepsWhatIsThereAndWorksFromSeveralThreads) {
  auto arena = Arena::Map(32 * kMib, ArenaOptions());
  ASSERT_TRUE(arena.ok()) << arena.status();
  arena->data()[0] = std::byte{7};
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      EXPECT_TRUE(arena->Populate(i * 8 * kMib, 8 * kMib).ok());
      arena->data()[i * 8 * kMib + 100] = std::byte{9};
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(arena->data()[0], std::byte{7});
  EXPECT_EQ(arena->data()[24 * kMib + 100], std::byte{9});
}

TEST(ArenaTest, PopulateRefusesARangeOutside) {
  auto arena = Arena::Map(2 * kMib, ArenaOptions());
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ(arena->Populate(kMib, arena->bytes()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(arena->Populate(UINT64_MAX, 2).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(arena->Populate(arena->bytes(), 0).ok());
}

TEST(ArenaTest, TransparentPagesAreClaimedOnlyWhereTheyAre) {
  ArenaOptions options;
  options.try_hugetlb = false;
  auto arena = Arena::Map(64 * kMib, options);
  ASSERT_TRUE(arena.ok()) << arena.status();
  ASSERT_TRUE(arena->Populate(0, arena->bytes()).ok());
  const PageKind asked = arena->page_kind();
  ConfirmPageKind(*arena);
  EXPECT_TRUE(arena->page_kind() == asked || arena->page_kind() == PageKind::kSmall);
}

TEST(ArenaTest, OnWhichPagesItLiesIsTheMajoritys) {
  ArenaOptions options;
  options.try_hugetlb = false;
  auto arena = Arena::Map(4 * kMib, options);
  ASSERT_TRUE(arena.ok()) << arena.status();
  const PageKind asked = arena->page_kind();
  arena->ConfirmPageKind({.transparent_huge = 2 * kMib, .small = 2 * kMib});
  EXPECT_EQ(arena->page_kind(), asked);
  arena->ConfirmPageKind({.transparent_huge = 2 * kMib, .small = 2 * kMib + 1});
  EXPECT_EQ(arena->page_kind(), PageKind::kSmall);
}

// Empty: shared memory may get huge pages when it asks for them (MADV_COLLAPSE, Linux 6.1).
std::string WhyNoCollapse() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  std::string modes;
  std::getline(file, modes);
  utsname kernel;
  if (uname(&kernel) != 0) return "uname fails";
  int major = 0;
  int minor = 0;
  std::sscanf(kernel.release, "%d.%d", &major, &minor);
  if (!modes.empty() && !absl::StrContains(modes, "[deny]") && major * 1000 + minor >= 6001) {
    return "";
  }
  return absl::StrCat("no huge pages for shared memory here: ", modes, " ", kernel.release);
}

// What was touched before huge pages were asked for, as a block is that a thread writes to while
// another asks.
TEST(ArenaTest, BlocksThatWereLeftSmallAreAskedForAgain) {
  if (const std::string why = WhyNoCollapse(); !why.empty()) GTEST_SKIP() << why;
  for (const bool shareable : {false, true}) {
    ArenaOptions options;
    options.try_hugetlb = false;
    options.shareable = shareable;
    auto arena = Arena::Map(100 * kMib, options);
    ASSERT_TRUE(arena.ok()) << arena.status();
    if (arena->page_kind() != PageKind::kTransparentHuge) continue;
    ASSERT_EQ(madvise(arena->data(), arena->bytes(), MADV_NOHUGEPAGE), 0);
    for (uint64_t at = 0; at < arena->bytes(); at += 4096) arena->data()[at] = std::byte{5};
    ASSERT_EQ(madvise(arena->data(), arena->bytes(), MADV_HUGEPAGE), 0);
    const auto counted = [&] { return *ReadResidentPages({arena->range()}); };
    ASSERT_EQ(counted()[0].transparent_huge, 0u);
    arena->CollapseRest([] { return true; });
    ASSERT_EQ(counted()[0].transparent_huge, 0u);
    arena->CollapseRest(nullptr);
    // All but what the kernel has no room for.
    EXPECT_GE(counted()[0].transparent_huge, 50 * kMib) << "shareable: " << shareable;
    EXPECT_EQ(counted()[0].Total(), arena->bytes());
    for (uint64_t at = 0; at < arena->bytes(); at += 4096) {
      ASSERT_EQ(arena->data()[at], std::byte{5});
    }
  }
}

// Where the kernel gives shared memory none by itself ("never"), it is asked.
TEST(ArenaTest, SharedMemoryGetsHugePagesUnlessTheyAreDenied) {
  if (const std::string why = WhyNoCollapse(); !why.empty()) GTEST_SKIP() << why;
  ArenaOptions options;
  options.try_hugetlb = false;
  options.shareable = true;
  auto arena = Arena::Map(32 * kMib, options);
  ASSERT_TRUE(arena.ok()) << arena.status();
  // Pieces as loaders have them: they end within blocks.
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const uint64_t begin = i * 8 * kMib - i * 4096;
      EXPECT_TRUE(arena->Populate(begin, 8 * kMib).ok());
      std::fill_n(arena->data() + begin, 8 * kMib - 4096, static_cast<std::byte>(i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (uint64_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(std::all_of(arena->data() + i * 8 * kMib,
                            arena->data() + (i + 1) * 8 * kMib - 32768,
                            [i](std::byte b) { return b == static_cast<std::byte>(i); }));
  }
  ConfirmPageKind(*arena);
  EXPECT_EQ(arena->page_kind(), PageKind::kTransparentHuge);
}

TEST(ArenaTest, AMovedOneIsEmptyAndTheMemoryStays) {
  auto arena = Arena::Map(kMib, ArenaOptions());
  ASSERT_TRUE(arena.ok()) << arena.status();
  arena->data()[1] = std::byte{3};
  Arena other = *std::move(arena);
  EXPECT_EQ(arena->data(), nullptr);  // NOLINT: what a move leaves is the subject
  Arena third;
  third = std::move(other);
  EXPECT_EQ(third.data()[1], std::byte{3});
}

// Every kind of page that the machine has now, each shareable too.
TEST(ArenaTest, AShareableOneIsReadElsewhereAndWrittenNowhere) {
  for (const bool transparent : {false, true}) {
    ArenaOptions options;
    options.shareable = true;
    options.try_hugetlb = transparent;
    options.try_transparent_huge = transparent;
    auto arena = Arena::Map(3 * kMib + 5, options);
    ASSERT_TRUE(arena.ok()) << arena.status();
    SCOPED_TRACE(Name(arena->page_kind()));
    ASSERT_TRUE(arena->memfd().is_open());
    ASSERT_TRUE(arena->Populate(0, arena->bytes()).ok());
    arena->data()[3 * kMib] = std::byte{42};
    ConfirmPageKind(*arena);
    ASSERT_TRUE(arena->Seal().ok());
    const auto other = MapSealed(arena->memfd(), kReadOnlySeals, Access::kRead, 3 * kMib + 5,
                                 arena->bytes(), "a test's arena");
    ASSERT_TRUE(other.ok()) << other.status();
    EXPECT_EQ(other->data()[3 * kMib], std::byte{42});
    EXPECT_EQ(MapMemfd(arena->memfd(), arena->bytes(), Access::kReadWrite).status().code(),
              absl::StatusCode::kResourceExhausted);
    const int fd = arena->memfd().get();
    EXPECT_NE(ftruncate(fd, 0), 0);
    EXPECT_NE(ftruncate(fd, static_cast<off_t>(arena->bytes() * 2)), 0);
    EXPECT_NE(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * kMib), 0);
    EXPECT_NE(pwrite(fd, "x", 1, 0), 1);
    EXPECT_NE(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
  }
}

TEST(ArenaDeathTest, ASealedOneIsReadOnlyForItsOwnerToo) {
  for (const bool shareable : {false, true}) {
    ArenaOptions options;
    options.shareable = shareable;
    auto arena = Arena::Map(kMib, options);
    ASSERT_TRUE(arena.ok()) << arena.status();
    arena->data()[0] = std::byte{1};
    ASSERT_TRUE(arena->Seal().ok());
    EXPECT_EQ(arena->data()[0], std::byte{1});
    EXPECT_DEATH(arena->data()[0] = std::byte{2}, "");
  }
}

// One that asks for more reserved huge pages than are left beside those promised gets other ones.
TEST(ArenaTest, WhatWasPromisedToOthersIsNotTakenTwice) {
  ArenaOptions options;
  options.numa = {NumaPolicy::Kind::kBind, 0};
  options.promised_hugetlb_bytes = uint64_t{1} << 50;
  auto arena = Arena::Map(kMib, options);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_NE(arena->page_kind(), PageKind::kHugetlb2M);
}

TEST(ArenaTest, TheWayToHugePagesNamesTheSwitchForTheKindOfMemory) {
  EXPECT_TRUE(absl::StrContains(HowToGetHugePages(5 * kMib, true), "vm.nr_hugepages=3"));
  EXPECT_TRUE(absl::StrContains(HowToGetHugePages(5 * kMib, true), "shmem_enabled"));
  EXPECT_FALSE(absl::StrContains(HowToGetHugePages(5 * kMib, false), "shmem_enabled"));
}

TEST(ArenaTest, RefusesWhatCannotBeMapped) {
  EXPECT_EQ(Arena::Map(0, ArenaOptions()).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Arena::Map(uint64_t{1} << 60, ArenaOptions()).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Arena::Map(UINT64_MAX, ArenaOptions()).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ArenaTest, PiecesBecomeWholePagesAndThoseThatMeetBecomeOne) {
  const std::vector<MemoryPiece> pieces = {{1, 10}, {4000, 200}, {8192, 1}, {20000, 4096}};
  const std::vector<MemoryPiece> whole = {{0, 3 * 4096}, {4 * 4096, 2 * 4096}};
  EXPECT_EQ(InWholePages(pieces, 4096), whole);
  EXPECT_TRUE(InWholePages({}, 4096).empty());
}

// Of every kind of page that the machine has now, shareable or not: what is held is memory, and a
// memfd has no more than that.
TEST(ArenaTest, OfARunWithHolesOnlyWhatIsHeldIsMemory) {
  for (const bool shareable : {false, true}) {
    for (const bool huge : {false, true}) {
      ArenaOptions options;
      options.shareable = shareable;
      options.try_hugetlb = huge;
      options.try_transparent_huge = huge;
      const std::vector<MemoryPiece> held = {{8 * kMib + 5, 100}, {32 * kMib, 3 * kMib}};
      auto arena = Arena::Map(65 * kMib, held, options);
      ASSERT_TRUE(arena.ok()) << arena.status();
      SCOPED_TRACE(Name(arena->page_kind()));
      const bool small = arena->page_kind() == PageKind::kSmall;
      EXPECT_EQ(arena->held_bytes(), small ? 3 * kMib + 4096 : 6 * kMib);
      EXPECT_GE(arena->bytes(), 65 * kMib);
      for (const MemoryPiece& piece : held) {
        ASSERT_TRUE(arena->Populate(piece.offset, piece.bytes).ok());
        arena->data()[piece.offset] = std::byte{7};
      }
      EXPECT_EQ(arena->Populate(16 * kMib, 1).code(), absl::StatusCode::kInvalidArgument);
      EXPECT_EQ(arena->Populate(32 * kMib, 20 * kMib).code(), absl::StatusCode::kInvalidArgument);
      arena->CollapseRest(nullptr);
      const auto counted = ReadResidentPages({arena->range()});
      ASSERT_TRUE(counted.ok()) << counted.status();
      EXPECT_GE(counted->front().Total(), 3 * kMib + 4096);
      EXPECT_LE(counted->front().Total(), arena->held_bytes());
      ASSERT_TRUE(arena->Seal().ok());
      if (!shareable) continue;
      EXPECT_EQ(lseek(arena->memfd().get(), 0, SEEK_END), static_cast<off_t>(arena->held_bytes()));
      const auto other = MapSealedPieces(arena->memfd(), kReadOnlySeals, arena->bytes(),
                                         arena->pieces(), "a test's arena");
      ASSERT_TRUE(other.ok()) << other.status();
      for (const MemoryPiece& piece : held) {
        EXPECT_EQ(other->data()[piece.offset], std::byte{7});
      }
    }
  }
}

TEST(ArenaTest, OneThatHoldsNothingIsAddressesAlone) {
  ArenaOptions options;
  options.shareable = true;
  auto arena = Arena::Map(5 * kMib, {}, options);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ(arena->held_bytes(), 0u);
  ASSERT_TRUE(arena->Seal().ok());
  EXPECT_TRUE(MapSealedPieces(arena->memfd(), kReadOnlySeals, arena->bytes(), {}, "none").ok());
}

TEST(ArenaDeathTest, AHoleIsNeverRead) {
  auto arena = Arena::Map(64 * kMib, {{.offset = 0, .bytes = 4096}}, ArenaOptions());
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_DEATH(static_cast<void>(*const_cast<volatile std::byte*>(arena->data() + 32 * kMib)), "");
}

TEST(ArenaTest, EveryPolicyMaps) {
  for (const char* text : {"local", "interleave", "bind:0"}) {
    SCOPED_TRACE(text);
    const auto policy = ParseNumaPolicy(text);
    ASSERT_TRUE(policy.ok()) << policy.status();
    ArenaOptions options;
    options.numa = *policy;
    auto arena = Arena::Map(4 * kMib, options);
    ASSERT_TRUE(arena.ok()) << arena.status();
    EXPECT_TRUE(arena->Populate(0, arena->bytes()).ok());
  }
}

TEST(ArenaTest, ANodeThatIsNotThereIsRefusedNamingThoseThatAre) {
  ArenaOptions options;
  options.numa = {NumaPolicy::Kind::kBind, 4095};
  const absl::Status status = Arena::Map(4 * kMib, options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "NUMA node 4095")) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "0")) << status;
}

TEST(NumaPolicyTest, ReadsItsThreeForms) {
  EXPECT_EQ(ParseNumaPolicy("local")->kind, NumaPolicy::Kind::kLocal);
  EXPECT_EQ(ParseNumaPolicy("interleave")->kind, NumaPolicy::Kind::kInterleave);
  const auto bind = ParseNumaPolicy("bind:3");
  ASSERT_TRUE(bind.ok());
  EXPECT_EQ(bind->kind, NumaPolicy::Kind::kBind);
  EXPECT_EQ(bind->node, 3);
}

TEST(NumaPolicyTest, RefusesAnythingElseNamingTheForms) {
  for (const char* text :
       {"", "Local", "bind", "bind:", "bind:-1", "bind:x", "bind:1,2", "spread"}) {
    const absl::Status status = ParseNumaPolicy(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_TRUE(absl::StrContains(status.message(), std::string("\"") + text + "\"")) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "bind:N")) << status;
  }
}

}  // namespace
}  // namespace engram
