#include "server/metrics/refusal_log.h"

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

using ::testing::SizeIs;

TEST(RefusalLog, TheLatestIsFirstAndItsAgeIsByTheClock) {
  FakeClock clock;
  RefusalLog log(&clock);
  log.Add("attach over grpc", "unknown_name", "ipv4:10.0.0.7:51234", "no set x");
  clock.Advance(absl::Seconds(5));
  log.Add("attach over shm", "permission_denied", "pid 12, uid 1000", "not you");
  clock.Advance(absl::Seconds(2));
  const std::vector<RecentRefusal> recent = log.Recent();
  ASSERT_THAT(recent, SizeIs(2));
  EXPECT_EQ(recent[0].way, "attach over shm");
  EXPECT_EQ(recent[0].reason, "permission_denied");
  EXPECT_EQ(recent[0].peer, "pid 12, uid 1000");
  EXPECT_EQ(recent[0].ago, absl::Seconds(2));
  EXPECT_EQ(recent[1].peer, "ipv4:10.0.0.7");
  EXPECT_EQ(recent[1].message, "no set x");
  EXPECT_EQ(recent[1].ago, absl::Seconds(7));
}

TEST(RefusalLog, RepeatsAreCountedAndComeFirstAgain) {
  FakeClock clock;
  RefusalLog log(&clock);
  log.Add("attach over grpc", "unknown_name", "ipv6:%5B::1%5D:1", "first");
  log.Add("attach over grpc", "draining", "ipv6:%5B::1%5D:2", "other");
  clock.Advance(absl::Seconds(9));
  log.Add("attach over grpc", "unknown_name", "ipv6:%5B::1%5D:3", "second");
  const std::vector<RecentRefusal> recent = log.Recent();
  ASSERT_THAT(recent, SizeIs(2));
  EXPECT_EQ(recent[0].reason, "unknown_name");
  EXPECT_EQ(recent[0].count, 2u);
  EXPECT_EQ(recent[0].message, "second");
  EXPECT_EQ(recent[0].ago, absl::ZeroDuration());
  EXPECT_EQ(recent[1].count, 1u);
}

TEST(RefusalLog, KeepsTheLastOnesAndBoundsWhatOthersChose) {
  FakeClock clock;
  RefusalLog log(&clock);
  for (size_t i = 0; i < RefusalLog::kMost + 8; ++i) {
    log.Add("attach over grpc", "invalid", absl::StrCat("peer ", i), std::string(100'000, '\x1b'));
  }
  const std::vector<RecentRefusal> recent = log.Recent();
  ASSERT_THAT(recent, SizeIs(RefusalLog::kMost));
  EXPECT_EQ(recent.front().peer, absl::StrCat("peer ", RefusalLog::kMost + 7));
  EXPECT_EQ(recent.back().peer, "peer 8");
  EXPECT_LT(recent.front().message.size(), 2000u);
  EXPECT_EQ(recent.front().message.find('\x1b'), std::string::npos);
}

TEST(RefusalLog, OfASecondSoManyAreLookedAt) {
  FakeClock clock;
  RefusalLog log(&clock);
  for (uint64_t i = 0; i < 2 * RefusalLog::kMostPerSecond; ++i) log.Add("lookup", "x", "p", "m");
  EXPECT_EQ(log.Recent()[0].count, RefusalLog::kMostPerSecond);
  clock.Advance(absl::Seconds(1));
  log.Add("lookup", "x", "p", "m");
  EXPECT_EQ(log.Recent()[0].count, RefusalLog::kMostPerSecond + 1);
}

TEST(RefusalLog, ThreadsAddAndOthersLook) {
  FakeClock clock;
  RefusalLog log(&clock);
  std::vector<std::thread> threads;
  for (int n = 0; n < 4; ++n) {
    threads.emplace_back([&log] {
      for (int i = 0; i < 200; ++i) log.Add("attach over rdma", "full", "peer", "full");
    });
  }
  while (log.Recent().empty()) std::this_thread::yield();
  for (std::thread& thread : threads) thread.join();
  ASSERT_THAT(log.Recent(), SizeIs(1));
  EXPECT_EQ(log.Recent()[0].count, 800u);
}

}  // namespace
}  // namespace engram
