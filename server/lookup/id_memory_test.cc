#include "server/lookup/id_memory.h"

#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(IdMemoryQuota, WhatIsItsOwnIsThereWhateverOthersHold) {
  IdMemoryPool pool(100);
  IdMemoryQuota greedy(&pool, 10);
  EXPECT_TRUE(greedy.Take(110).ok());
  EXPECT_FALSE(greedy.Take(1).ok());
  EXPECT_EQ(greedy.bytes(), 110u);
  IdMemoryQuota other(&pool, 10);
  EXPECT_TRUE(other.Take(4).ok());
  EXPECT_TRUE(other.Take(6).ok());
  EXPECT_EQ(other.Take(1).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(other.bytes(), 10u);
}

TEST(IdMemoryQuota, WhatIsGivenBackIsThereForOthers) {
  IdMemoryPool pool(100);
  IdMemoryQuota first(&pool, 10);
  first.SetConnection(1);
  IdMemoryQuota second(&pool, 10);
  second.SetConnection(2);
  ASSERT_TRUE(first.Take(60).ok());
  EXPECT_FALSE(pool.HalfUsed());
  ASSERT_TRUE(second.Take(60).ok());
  EXPECT_TRUE(pool.HalfUsed());
  EXPECT_FALSE(second.Take(1).ok());
  first.Give(60);
  EXPECT_EQ(first.bytes(), 0u);
  second.Give(60);
  EXPECT_TRUE(second.Take(110).ok());
  EXPECT_FALSE(first.Take(11).ok());
}

TEST(IdMemoryQuota, AConnectionThatHasSomeGetsAsMuchAsIsLeftToOthers) {
  IdMemoryPool pool(100);
  IdMemoryQuota calls[2] = {{&pool, 0}, {&pool, 0}};
  for (IdMemoryQuota& call : calls) call.SetConnection(1);
  ASSERT_TRUE(calls[0].Take(40).ok());
  EXPECT_FALSE(calls[1].Take(21).ok());
  EXPECT_TRUE(calls[1].Take(10).ok());
  EXPECT_FALSE(calls[0].Take(1).ok());
  IdMemoryQuota other(&pool, 0);
  other.SetConnection(2);
  EXPECT_TRUE(other.Take(50).ok());
}

TEST(IdMemoryQuota, GivesAllBackWhenItEnds) {
  IdMemoryPool pool(100);
  {
    IdMemoryQuota share(&pool, 0);
    ASSERT_TRUE(share.Take(100).ok());
  }
  EXPECT_TRUE(IdMemoryQuota(&pool, 0).Take(100).ok());
}

TEST(IdMemoryPool, IsNeverOverdrawnByThreads) {
  constexpr uint64_t kBytes = 1000;
  IdMemoryPool pool(kBytes);
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&pool, i] {
      for (int n = 0; n < 20000; ++n) {
        IdMemoryQuota share(&pool, i);
        share.SetConnection(i);
        if (share.Take(300 + i).ok()) share.Give(100);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(pool.Take(1, kBytes + 1));
  EXPECT_TRUE(pool.Take(1, kBytes));
}

}  // namespace
}  // namespace engram
