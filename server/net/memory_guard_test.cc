#include "server/net/memory_guard.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/config.h"
#include "gtest/gtest.h"
#include "memstore/base/mutex.h"
#include "memstore/base/testing/fake_clock.h"
#include "server/base/limits.h"

namespace engram {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kMost = 512 * kMiB;

// A process whose tables, heap and what it keeps of freed memory the test sets.
class MemoryBoundTest : public ::testing::Test {
 protected:
  MemoryBound Make() {
    return MemoryBound(kMost, {.resident_bytes = [this] { return Resident(); },
                               .heap =
                                   [this] {
                                     ++looks_;
                                     return HeapUse{.used = used_, .free = free_};
                                   },
                               .trim =
                                   [this] {
                                     ++trims_;
                                     free_ = 0;
                                   }});
  }
  uint64_t Resident() const { return tables_ + used_ + free_; }
  MonotonicTime Now() { return now_ += absl::Milliseconds(20); }

  uint64_t tables_ = 1000 * kMiB, used_ = 100 * kMiB, free_ = 10 * kMiB;
  int looks_ = 0, trims_ = 0;
  MonotonicTime now_;
};

TEST_F(MemoryBoundTest, SaysHowMuchIsTooMuch) {
  MemoryBound bound = Make();
  EXPECT_EQ(bound.Excess(Now()), 0u);
  used_ += kMost;
  EXPECT_EQ(bound.Excess(Now()), 0u);
  used_ += kMiB;
  EXPECT_EQ(bound.Excess(Now()), kMiB + kMost / 4);
  used_ -= kMost / 2;
  EXPECT_EQ(bound.Excess(Now()), 0u);
}

// However it grows: in steps of any size, before and after what was free is used up.
TEST_F(MemoryBoundTest, FindsItAtOnceHoweverItGrew) {
  for (const uint64_t step : {kMiB, 7 * kMiB, 100 * kMiB, 600 * kMiB}) {
    for (const uint64_t free : {uint64_t{0}, 64 * kMiB, 300 * kMiB, 600 * kMiB}) {
      used_ = 100 * kMiB;
      free_ = free;
      MemoryBound bound = Make();
      for (; used_ <= 100 * kMiB + kMost; used_ += step, free_ -= std::min(free_, step)) {
        ASSERT_EQ(bound.Excess(Now()), 0u);
      }
      EXPECT_GT(bound.Excess(Now()), 0u) << step << " " << free;
    }
  }
}

TEST_F(MemoryBoundTest, TheHeapIsNotLookedAtWhileNothingGrows) {
  MemoryBound bound = Make();
  bound.Excess(Now());
  looks_ = 0;
  for (int i = 0; i < 1000; ++i) bound.Excess(Now());
  EXPECT_EQ(looks_, 0);
  // A set is loaded: one look, for what it is.
  tables_ += 100'000 * kMiB;
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(bound.Excess(Now()), 0u);
  EXPECT_EQ(looks_, 1);
}

// Where it went the heap may grow by as much, and the process be no larger than it was.
TEST_F(MemoryBoundTest, ATableThatWentIsNoRoomForClients) {
  tables_ = 10'000 * kMiB;
  MemoryBound bound = Make();
  bound.Excess(Now());
  tables_ = 0;
  EXPECT_EQ(bound.Excess(Now()), 0u);
  used_ += kMost + kMiB;
  EXPECT_GT(bound.Excess(Now()), 0u);
}

TEST_F(MemoryBoundTest, WhatAFloodLeftFreeIsGivenBackOnceInAWhile) {
  MemoryBound bound = Make();
  bound.Excess(Now());
  free_ += kMost;  // it came and went
  EXPECT_EQ(bound.Excess(Now()), 0u);
  EXPECT_EQ(trims_, 1);
  EXPECT_EQ(free_, 0u);
  free_ = kMost;  // the system had it back, and again
  for (int i = 0; i < 100; ++i) bound.Excess(Now());
  EXPECT_EQ(trims_, 1);
  now_ += absl::Seconds(60);
  bound.Excess(Now());
  EXPECT_EQ(trims_, 2);
}

// Threads and pieces of the heap take address space as well, and where there is none left malloc
// fails, however little is held.
TEST_F(MemoryBoundTest, AWantOfAddressSpaceIsTooMuchWhereTheHeapHasNothingFree) {
  uint64_t left = kMost;
  HeapUse heap;
  MemoryBound bound(kMost, {.resident_bytes = [] { return kMost; },
                            .address_space_left = [&] { return left; },
                            .heap = [&] { return heap; },
                            .trim = [] {}});
  EXPECT_EQ(bound.Excess(Now()), 0u);
  left = kMost / 5;
  EXPECT_EQ(bound.Excess(Now()), kMost / 4);
  heap.free = kMost / 5;
  EXPECT_EQ(bound.Excess(Now()), 0u);
}

// As where /proc is not there: the heap is known all the same.
TEST_F(MemoryBoundTest, WithoutAResidentSizeTheHeapSaysWhatIsTooMuch) {
  MemoryBound bound(kMost, {.resident_bytes = [] { return uint64_t{0}; },
                            .heap = [this] { return HeapUse{.used = used_}; },
                            .trim = [this] { ++trims_; }});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(bound.Excess(Now()), 0u);
  used_ += kMost + kMiB;
  EXPECT_EQ(bound.Excess(Now()), kMiB + kMost / 4);
  EXPECT_EQ(trims_, 0);
}

TEST(MemoryGuard, LooksEachTimeItsIntervalIsOver) {
  FakeClock clock;
  Mutex mutex;
  CondVar changed;
  uint64_t used = 0;
  int looks = 0;
  std::vector<uint64_t> asked;
  MemoryBound bound(kMost, {.resident_bytes =
                                [&] {
                                  MutexLock lock(mutex);
                                  ++looks;
                                  changed.NotifyAll();
                                  return used;
                                },
                            .heap =
                                [&] {
                                  MutexLock lock(mutex);
                                  return HeapUse{.used = used};
                                },
                            .trim = [] {}});
  auto guard = MemoryGuard::Start(
      std::move(bound),
      [&](uint64_t bytes) {
        MutexLock lock(mutex);
        asked.push_back(bytes);
        changed.NotifyAll();
      },
      std::chrono::milliseconds(20), &clock);
  ASSERT_TRUE(guard.ok()) << guard.status();
  clock.AwaitWaiters(1);
  clock.Advance(absl::Milliseconds(20));
  {
    MutexLock lock(mutex);
    while (looks == 0) changed.Wait(mutex);
    EXPECT_TRUE(asked.empty());
  }
  clock.AwaitWaiters(1);
  {
    MutexLock lock(mutex);
    used = 2 * kMost;
  }
  clock.Advance(absl::Milliseconds(20));
  {
    MutexLock lock(mutex);
    while (asked.empty()) changed.Wait(mutex);
  }
  guard->reset();
  MutexLock lock(mutex);
  EXPECT_EQ(asked, std::vector<uint64_t>{kMost + kMost / 4});
}

TEST(CallMemoryBytes, IsHalfOfWhatTheProcessMayTakeAndNeverMoreThanAllCallsNeed) {
  EXPECT_EQ(CallMemoryBytes(600 * kMiB), 300 * kMiB);
  EXPECT_EQ(CallMemoryBytes(0), 0u);
  EXPECT_EQ(CallMemoryBytes(kUnlimitedAddressSpace), kCallMemoryBytes);
}

TEST(ProcessMemory, SeesWhatIsTaken) {
  const MemoryProbes probes = ProcessMemory();
  EXPECT_GT(probes.resident_bytes(), kMiB);
#if !defined(ABSL_HAVE_ADDRESS_SANITIZER) && \
    !defined(ABSL_HAVE_THREAD_SANITIZER)  // which have heaps of their own
  const uint64_t before = probes.heap().used;
  const std::vector<char> some(64 * kMiB, 1);
  EXPECT_GE(probes.heap().used, before + some.size());
#endif
}

}  // namespace
}  // namespace engram
