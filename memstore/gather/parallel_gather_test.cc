#include "memstore/gather/parallel_gather.h"

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

constexpr uint32_t kRowBytes = 264;
constexpr uint64_t kRows = 4096;
constexpr size_t kGroupRows = 48;
constexpr size_t kStride = kGroupRows * kRowBytes + 64;

std::vector<std::byte> TableBytes() {
  std::vector<std::byte> bytes(kRows * kRowBytes);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 31 + i / 251);
  return bytes;
}

template <typename Id>
std::vector<Id> Ids(size_t count, size_t seed) {
  std::vector<Id> ids(count);
  for (size_t i = 0; i < count; ++i) ids[i] = ((i + seed) * 2654435761u) % kRows;
  return ids;
}

// The batch by one thread, to compare with.
template <typename Id>
std::vector<std::byte> Alone(const GatherTable& table, const std::vector<Id>& ids) {
  std::vector<std::byte> landing((ids.size() + kGroupRows - 1) / kGroupRows * kStride,
                                 std::byte{9});
  Gather<Id>(table, ids, Landing{landing.data(), kGroupRows, kStride});
  return landing;
}

template <typename Id>
std::vector<std::byte> Together(GatherTeam& team, const GatherTable& table,
                                const std::vector<Id>& ids) {
  std::vector<std::byte> landing((ids.size() + kGroupRows - 1) / kGroupRows * kStride,
                                 std::byte{9});
  team.Gather<Id>(table, ids, Landing{landing.data(), kGroupRows, kStride});
  return landing;
}

TEST(GatherTeamTest, RefusesNumbersOfThreadsThatCannotBe) {
  for (const uint32_t threads : {0u, GatherTeam::kMaxThreads + 1, UINT32_MAX}) {
    const auto team = GatherTeam::Create(threads, "gather");
    EXPECT_EQ(team.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StrContains(team.status().message(), "1 to 64")) << team.status();
  }
}

TEST(GatherTeamTest, AnyNumberOfThreadsGathersTheSame) {
  const std::vector<std::byte> bytes = TableBytes();
  const GatherTable table{bytes.data(), kRows, kRowBytes};
  for (const uint32_t threads : {1u, 2u, 3u, 8u}) {
    auto team = GatherTeam::Create(threads, "gather");
    ASSERT_TRUE(team.ok()) << team.status();
    EXPECT_EQ((*team)->threads(), threads);
    for (const size_t count : {size_t{0}, size_t{1}, size_t{48}, size_t{1985}, size_t{12289}}) {
      const auto narrow = Ids<uint32_t>(count, threads);
      EXPECT_EQ(Together(**team, table, narrow), Alone(table, narrow)) << threads << ", " << count;
      const auto wide = Ids<uint64_t>(count, threads);
      EXPECT_EQ(Together(**team, table, wide), Alone(table, wide)) << threads << ", " << count;
    }
  }
}

// More callers than the hand-over has room for: some gather alone, all get their rows.
TEST(GatherTeamTest, ManyCallersAtOnceGetTheirOwnRows) {
  const std::vector<std::byte> bytes = TableBytes();
  const GatherTable table{bytes.data(), kRows, kRowBytes};
  auto team = GatherTeam::Create(3, "gather");
  ASSERT_TRUE(team.ok()) << team.status();
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (size_t caller = 0; caller < 24; ++caller) {
    callers.emplace_back([&, caller] {
      const auto ids = Ids<uint32_t>(2500, caller * 977);
      const std::vector<std::byte> expected = Alone(table, ids);
      for (int round = 0; round < 8; ++round) {
        if (Together(**team, table, ids) != expected) wrong.fetch_add(1);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST(GatherTeamTest, EndsAtOnceWithoutWork) {
  for (int round = 0; round < 8; ++round) {
    ASSERT_TRUE(GatherTeam::Create(4, "gather").ok());
  }
}

}  // namespace
}  // namespace engram
