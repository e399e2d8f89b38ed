#include "server/lookup/reply_slabs.h"

#include <atomic>
#include <cstring>
#include <set>
#include <thread>

#include "gtest/gtest.h"

namespace engram {
namespace {

constexpr uint64_t kBytes = 8192;

std::shared_ptr<ReplySlabs> Pool(uint32_t slabs) {
  auto pool = ReplySlabs::Create(slabs, kBytes);
  EXPECT_TRUE(pool.ok()) << pool.status();
  return *std::move(pool);
}

void Nobody() { ADD_FAILURE() << "called though the slabs were there"; }

TEST(ReplySlabs, AreOfTheirSizeAndDoNotOverlap) {
  const auto pool = Pool(5);
  EXPECT_EQ(pool->slabs(), 5u);
  EXPECT_EQ(pool->slab_bytes(), kBytes);
  std::vector<ReplySlabs::Slab> slabs;
  ASSERT_TRUE(pool->Take(1, 5, Nobody, &slabs));
  for (size_t i = 0; i < slabs.size(); ++i) {
    ASSERT_EQ(slabs[i].memory().size(), kBytes);
    std::memset(slabs[i].memory().data(), static_cast<int>(i + 1), kBytes);
  }
  for (size_t i = 0; i < slabs.size(); ++i) {
    for (const std::byte b : slabs[i].memory()) ASSERT_EQ(b, std::byte(i + 1));
  }
}

TEST(ReplySlabs, TakesAllOrNone) {
  const auto pool = Pool(4);
  std::vector<ReplySlabs::Slab> some, more;
  ASSERT_TRUE(pool->Take(1, 3, Nobody, &some));
  EXPECT_EQ(pool->FreeSlabs(), 1u);
  EXPECT_FALSE(pool->Take(
      2, 2, [] {}, &more));
  EXPECT_TRUE(more.empty());
  EXPECT_EQ(pool->FreeSlabs(), 1u);
  // Appends.
  ASSERT_TRUE(pool->Take(2, 1, Nobody, &some));
  EXPECT_EQ(some.size(), 4u);
  some.clear();
  EXPECT_EQ(pool->FreeSlabs(), 4u);
}

TEST(ReplySlabs, SayOnceThatSomeCameBack) {
  const auto pool = Pool(2);
  std::vector<ReplySlabs::Slab> slabs, none;
  ASSERT_TRUE(pool->Take(1, 2, Nobody, &slabs));
  int first = 0, second = 0;
  EXPECT_FALSE(pool->Take(
      2, 1, [&] { ++first; }, &none));
  EXPECT_FALSE(pool->Take(
      3, 2, [&] { ++second; }, &none));
  EXPECT_EQ(first + second, 0);
  slabs.pop_back();
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 1);  // though one is too few for it: it asks again
  slabs.clear();
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 1);
}

TEST(ReplySlabs, AConnectionThatHoldsSomeHasAsManyAsAreLeftFree) {
  const auto pool = Pool(16);
  std::vector<ReplySlabs::Slab> held[4];
  const auto take_all = [&](uint64_t connection) {
    while (pool->Take(connection, 1, {}, &held[connection])) {
    }
    return pool->HeldBy(connection);
  };
  EXPECT_EQ(take_all(0), 8u);
  EXPECT_EQ(take_all(1), 4u);
  EXPECT_EQ(take_all(2), 2u);
  int woken = 0;
  EXPECT_FALSE(pool->Take(
      0, 1, [&] { ++woken; }, &held[0]));
  // Who comes with a large reply takes what it needs at once, where it is there.
  ASSERT_TRUE(pool->Take(3, 2, Nobody, &held[3]));
  EXPECT_EQ(pool->FreeSlabs(), 0u);
  // Those that came back are nobody's any more, whoever gave them.
  void* const lent = std::move(held[3].back()).Lend();
  held[3].pop_back();
  ReplySlabs::Slab::GiveBack(lent);
  EXPECT_EQ(woken, 1);
  EXPECT_EQ(pool->HeldBy(3), 1u);
  for (std::vector<ReplySlabs::Slab>& slabs : held) slabs.clear();
  for (uint64_t connection = 0; connection < 4; ++connection) {
    EXPECT_EQ(pool->HeldBy(connection), 0u);
  }
  ASSERT_TRUE(pool->Take(0, 16, Nobody, &held[0]));
}

TEST(ReplySlabs, TheMoreAConnectionHoldsTheShorterItMayStall) {
  EXPECT_EQ(MostWriteStall(0), absl::Seconds(2));
  EXPECT_EQ(MostWriteStall(7), absl::Seconds(2));
  EXPECT_EQ(MostWriteStall(8), absl::Seconds(1));
  EXPECT_LT(MostWriteStall(16), MostWriteStall(8));
  EXPECT_EQ(MostWriteStall(1000), absl::Milliseconds(600));
}

TEST(ReplySlabs, ASlabComesBackOnceHoweverItIsMoved) {
  const auto pool = Pool(2);
  std::vector<ReplySlabs::Slab> slabs;
  ASSERT_TRUE(pool->Take(1, 2, Nobody, &slabs));
  ReplySlabs::Slab one = std::move(slabs[0]);
  EXPECT_FALSE(slabs[0]);
  EXPECT_TRUE(one);
  one = std::move(slabs[1]);  // what it held goes back
  EXPECT_EQ(pool->FreeSlabs(), 1u);
  slabs.clear();
  EXPECT_EQ(pool->FreeSlabs(), 1u);
  one.Reset();
  one.Reset();
  EXPECT_FALSE(one);
  EXPECT_EQ(pool->FreeSlabs(), 2u);
}

TEST(ReplySlabs, ThePoolLivesUntilItsLastSlabIsBack) {
  auto pool = Pool(2);
  const std::weak_ptr<ReplySlabs> watched = pool;
  std::vector<ReplySlabs::Slab> slabs;
  ASSERT_TRUE(pool->Take(1, 2, Nobody, &slabs));
  pool.reset();
  slabs.pop_back();
  ASSERT_FALSE(watched.expired());
  std::memset(slabs[0].memory().data(), 1, kBytes);  // still mapped
  slabs.clear();
  EXPECT_TRUE(watched.expired());
}

TEST(ReplySlabs, RefuseWhatTheAddressSpaceDoesNotHold) {
  const auto pool = ReplySlabs::Create(1 << 20, uint64_t{1} << 40);
  EXPECT_EQ(pool.status().code(), absl::StatusCode::kResourceExhausted) << pool.status();
}

// Threads take, write and give; those that found none are woken, so all of them finish.
TEST(ReplySlabs, NoThreadSeesAnothersBytesAndNoneWaitsForEver) {
  constexpr int kThreads = 4, kRounds = 2000;
  const auto pool = Pool(5);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&pool, t] {
      const auto woken = std::make_shared<std::atomic<int>>(0);
      for (int round = 0; round < kRounds; ++round) {
        std::vector<ReplySlabs::Slab> slabs;
        const int seen = woken->load();
        if (!pool->Take(
                t, 1 + (round + t) % 3, [woken] { ++*woken, woken->notify_one(); }, &slabs)) {
          woken->wait(seen);
          continue;
        }
        for (ReplySlabs::Slab& slab : slabs) std::memset(slab.memory().data(), t, kBytes);
        for (ReplySlabs::Slab& slab : slabs) {
          for (size_t at : {size_t{0}, size_t{kBytes / 2}, size_t{kBytes - 1}}) {
            ASSERT_EQ(slab.memory()[at], std::byte(t));
          }
        }
        // Given back by another, as gRPC does.
        if (round % 64 == 0) std::thread([back = std::move(slabs)] {}).join();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pool->FreeSlabs(), 5u);
}

}  // namespace
}  // namespace engram
