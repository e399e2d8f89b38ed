#include "server/admission.h"

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace engram {
namespace {

using std::chrono::milliseconds;
using std::chrono::system_clock;

constexpr auto kNever = system_clock::time_point::max();

TEST(Admission, TurnsAwayMoreLookupsThanItTakesAndAdmitsAgainAfterOneLeft) {
  Admission admission({.lookups = 2, .reply_bytes = 100, .wait = milliseconds(0)});
  std::optional<absl::StatusOr<Admission::Permit>> one(admission.Enter(1, kNever));
  const auto two = admission.Enter(1, kNever);
  ASSERT_TRUE(one->ok());
  ASSERT_TRUE(two.ok());
  const auto three = admission.Enter(1, kNever);
  EXPECT_EQ(three.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(three.status().message(),
            "engramd has 2 lookups under way, the most it takes: ask again");
  one.reset();
  EXPECT_TRUE(admission.Enter(1, kNever).ok());
}

TEST(Admission, TurnsAwayBytesThatFindNoRoomInTime) {
  Admission admission({.lookups = 8, .reply_bytes = 100, .wait = milliseconds(1)});
  const auto held = admission.Enter(60, kNever);
  ASSERT_TRUE(held.ok());
  EXPECT_TRUE(admission.Enter(40, kNever).ok());
  const auto more = admission.Enter(41, kNever);
  EXPECT_EQ(more.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(more.status().message(),
            "engramd has 60 bytes of replies under way, and 41 more do not fit: ask again");
}

TEST(Admission, SaysWhenTheDeadlinePassedInTheQueue) {
  Admission admission({.lookups = 8, .reply_bytes = 100, .wait = milliseconds(60'000)});
  const auto held = admission.Enter(100, kNever);
  ASSERT_TRUE(held.ok());
  EXPECT_EQ(admission.Enter(1, system_clock::now() + milliseconds(1)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(Admission, LetsOneLargerThanTheLimitInAlone) {
  Admission admission({.lookups = 8, .reply_bytes = 100, .wait = milliseconds(0)});
  const auto large = admission.Enter(1000, kNever);
  ASSERT_TRUE(large.ok());
  EXPECT_FALSE(admission.Enter(1, kNever).ok());
}

TEST(Admission, AWaitingLookupEntersWhenRoomComesFree) {
  Admission admission({.lookups = 8, .reply_bytes = 100, .wait = milliseconds(60'000)});
  auto held = std::make_optional(admission.Enter(100, kNever));
  ASSERT_TRUE(held->ok());
  std::thread waiting([&] { EXPECT_TRUE(admission.Enter(50, kNever).ok()); });
  held.reset();
  waiting.join();
}

TEST(Admission, NeverAdmitsMoreThanItsLimitsFromManyThreads) {
  Admission admission({.lookups = 4, .reply_bytes = 30, .wait = milliseconds(60'000)});
  std::atomic<int> inside{0};
  std::atomic<int> admitted{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        const auto permit = admission.Enter(10, kNever);
        ASSERT_TRUE(permit.ok());
        EXPECT_LE(inside.fetch_add(1) + 1, 3);
        inside.fetch_sub(1);
        admitted.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(admitted.load(), 8000);
}

}  // namespace
}  // namespace engram
