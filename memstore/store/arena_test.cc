#include "memstore/store/arena.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

constexpr uint64_t kMib = 1 << 20;

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
  arena->ConfirmPageKind();
  EXPECT_TRUE(arena->page_kind() == asked || arena->page_kind() == PageKind::kSmall);
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

TEST(ArenaTest, RefusesWhatCannotBeMapped) {
  EXPECT_EQ(Arena::Map(0, ArenaOptions()).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Arena::Map(uint64_t{1} << 60, ArenaOptions()).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Arena::Map(UINT64_MAX, ArenaOptions()).status().code(),
            absl::StatusCode::kResourceExhausted);
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
