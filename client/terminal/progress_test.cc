#include "client/terminal/progress.h"

#include <string>

#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

// What is said of updates, each so long after the one before.
class ProgressTest : public testing::Test {
 protected:
  ProgressTest() { testing::internal::CaptureStderr(); }
  void UpdateAfter(Progress& progress, absl::Duration span, uint64_t done, uint64_t total) {
    clock_.Advance(span);
    progress.Update(done, total);
  }
  static std::string Said() { return testing::internal::GetCapturedStderr(); }
  FakeClock clock_;
};

TEST_F(ProgressTest, IsALineEveryTenSecondsWhereThereIsNoTerminal) {
  {
    Progress progress("packing", clock_, false);
    UpdateAfter(progress, absl::Seconds(1), kGiB, 189 * kGiB);
    UpdateAfter(progress, absl::Seconds(9), 10 * kGiB, 189 * kGiB);
    UpdateAfter(progress, absl::Seconds(9), 19 * kGiB, 189 * kGiB);
    UpdateAfter(progress, absl::Seconds(1), 20 * kGiB, 189 * kGiB);
    UpdateAfter(progress, absl::Seconds(10), 189 * kGiB, 189 * kGiB);
    UpdateAfter(progress, absl::Milliseconds(1), 189 * kGiB, 189 * kGiB);
  }
  EXPECT_EQ(Said(),
            "packing: 5 %, 10.0 of 189.0 GiB, 1.0 GiB per second, 3 min left\n"
            "packing: 11 %, 20.0 of 189.0 GiB, 1.0 GiB per second, 3 min left\n"
            "packing: 100 %, 189.0 of 189.0 GiB, 6.3 GiB per second, 0 s left\n"
            "packing: 100 %, 189.0 of 189.0 GiB, 6.3 GiB per second, 0 s left\n");
}

TEST_F(ProgressTest, SaysNoShareOfWhatNobodyKnows) {
  {
    Progress progress("looking up", clock_, false);
    UpdateAfter(progress, absl::Seconds(10), 10 * kGiB, 0);
  }
  EXPECT_EQ(Said(), "looking up: 10.0 GiB, 1.0 GiB per second\n");
}

TEST_F(ProgressTest, IsOneLineDrawnAnewOnATerminal) {
  Progress progress("packing", clock_, true);
  UpdateAfter(progress, absl::Seconds(2), 200, 1000);
  UpdateAfter(progress, absl::Milliseconds(100), 210, 1000);
  UpdateAfter(progress, absl::Milliseconds(100), 220, 1000);
  EXPECT_TRUE(progress.on_line());
  progress.EndLine();
  progress.EndLine();
  EXPECT_FALSE(progress.on_line());
  EXPECT_EQ(Said(),
            "\rpacking: 20 %, 200 of 1000 bytes, 100 bytes per second, 8 s left\x1b[K"
            "\rpacking: 22 %, 220 of 1000 bytes, 100 bytes per second, 8 s left\x1b[K\n");
}

// 100 s at 100 bytes a second, then at 10: after half a minute nothing of the first is left in it.
TEST_F(ProgressTest, TheRateIsThatOfLately) {
  {
    Progress progress("packing", clock_, false);
    for (uint64_t i = 1; i <= 20; ++i) {
      clock_.Advance(absl::Seconds(5));
      progress.Update(500 * i, 20'000);
    }
    for (uint64_t i = 1; i <= 6; ++i) {
      clock_.Advance(absl::Seconds(5));
      progress.Update(10'000 + 50 * i, 20'000);
    }
  }
  const std::string said = Said();
  EXPECT_NE(said.find(" 9.8 of 19.5 KiB, 100 bytes per second, 2 min left\n"), std::string::npos)
      << said;
  EXPECT_NE(said.find(" 10 bytes per second, 17 min left\n"), std::string::npos) << said;
}

TEST_F(ProgressTest, SaysNothingOfWhatIsShort) {
  {
    Progress progress("packing", clock_, true);
    UpdateAfter(progress, absl::Milliseconds(1'999), 100, 100);
  }
  EXPECT_EQ(Said(), "");
}

}  // namespace
}  // namespace engram
