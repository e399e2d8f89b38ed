#include "memstore/store/scrubber.h"

#include <filesystem>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/mutex.h"
#include "memstore/base/testing/fake_clock.h"
#include "memstore/store/table_set_registry.h"
#include "memstore/store/testing/resident_damage.h"
#include "memstore/store/testing/small_table_set.h"

namespace engram {
namespace {

using testing::FlipResidentBit;
using ::testing::HasSubstr;
using testing::SmallLayer;

// MiB/s of the test's clock. That clock moves when a test says so: by seconds again and again until
// something has happened, or not at all, and then the thread rests after its first step.
constexpr uint32_t kFast = 1u << 20;
constexpr uint32_t kSlow = 1;

constexpr uint64_t kShardRows = 1u << 20;
constexpr uint64_t kManyRows = 160'000;  // many steps

// A scrubber over a store of small sets, which fences what is damaged.
class ScrubberTest : public ::testing::Test {
 protected:
  ~ScrubberTest() override {
    scrubber_.reset();
    std::filesystem::remove_all(directory_);
  }

  // Loads and publishes a set of 264 bytes a row.
  std::shared_ptr<const TableSet> Publish(const std::string& name, uint64_t rows = 9000) {
    const auto written = testing::WriteSmallTableSet(
        {.name = name,
         .layers = {SmallLayer{.row_bytes = 264, .rows = rows, .shard_rows = kShardRows}}},
        directory_);
    EXPECT_TRUE(written.ok()) << written.status();
    auto set = TableSet::Load(directory_, {});
    EXPECT_TRUE(set.ok()) << set.status();
    EXPECT_TRUE(registry_.Publish(*set).ok());
    return *std::move(set);
  }

  void Start(uint32_t mib_per_s) {
    ScrubberOptions options;
    options.mib_per_s = mib_per_s;
    options.sets = [this] { return registry_.List(); };
    options.on_mismatch = [this](const TableSet& set, const absl::Status& status) {
      EXPECT_TRUE(registry_.Fence(set.id()).ok());
      MutexLock lock(mutex_);
      found_.push_back(status);
    };
    auto scrubber = Scrubber::Create(std::move(options), clock_);
    ASSERT_TRUE(scrubber.ok()) << scrubber.status();
    scrubber_ = *std::move(scrubber);
  }

  std::vector<absl::Status> found() {
    MutexLock lock(mutex_);
    return found_;
  }

  void WaitForPasses(uint64_t passes) {
    while (scrubber_->progress().passes < passes) {
      clock_.Advance(absl::Seconds(1));
      std::this_thread::yield();
    }
  }

  std::vector<absl::Status> WaitForMismatches(size_t count) {
    while (found().size() < count) {
      clock_.Advance(absl::Seconds(1));
      std::this_thread::yield();
    }
    return found();
  }

  const std::string directory_ = absl::StrCat(
      ::testing::TempDir(), "/", ::testing::UnitTest::GetInstance()->current_test_info()->name());
  FakeClock clock_;
  TableSetRegistry registry_{clock_};
  Mutex mutex_;
  std::vector<absl::Status> found_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Scrubber> scrubber_;
};

TEST_F(ScrubberTest, GoesThroughAllThatIsServedAgainAndAgain) {
  const uint64_t bytes =
      ResidentVerifier::BytesOf(*Publish("one")) + ResidentVerifier::BytesOf(*Publish("two"));
  Start(kFast);
  WaitForPasses(2);
  const ScrubProgress progress = scrubber_->progress();
  EXPECT_GE(progress.bytes_verified, 2 * bytes);
  EXPECT_EQ(progress.mismatches, 0u);
  EXPECT_EQ(registry_.List().size(), 2u);
}

TEST_F(ScrubberTest, FindsDamageAndGoesOnWithTheOthers) {
  const auto good = Publish("good");
  const auto bad = Publish("bad");
  const auto last = Publish("last");
  FlipResidentBit(*bad, 0, 1'500'000);
  Start(kFast);
  const std::vector<absl::Status> found = WaitForMismatches(1);
  EXPECT_EQ(found[0].code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(found[0].message()), HasSubstr(bad->id()));
  EXPECT_EQ(registry_.Acquire(bad->id()).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(registry_.Acquire(good->id()).ok());
  EXPECT_TRUE(registry_.Acquire(last->id()).ok());
  WaitForPasses(2);  // once fenced it is met no more
  EXPECT_EQ(scrubber_->progress().mismatches, 1u);
  EXPECT_GE(scrubber_->progress().bytes_verified, 4 * ResidentVerifier::BytesOf(*good));
}

TEST_F(ScrubberTest, FindsWhatBreaksAfterAPass) {
  const auto set = Publish("one");
  Start(0);
  EXPECT_TRUE(scrubber_->ScrubNow(*set, nullptr).ok());
  FlipResidentBit(*set, 0, 0);
  EXPECT_EQ(scrubber_->ScrubNow(*set, nullptr).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(WaitForMismatches(1).size(), 1u);
  EXPECT_EQ(scrubber_->progress().mismatches, 1u);
}

TEST_F(ScrubberTest, ByItselfDoesNothingAtRateZero) {
  const auto set = Publish("one");
  Start(0);
  EXPECT_EQ(scrubber_->progress().bytes_verified, 0u);
  std::vector<uint64_t> told;
  const uint64_t bytes = ResidentVerifier::BytesOf(*set);
  EXPECT_TRUE(scrubber_
                  ->ScrubNow(*set,
                             [&](uint64_t done, uint64_t total) {
                               EXPECT_EQ(total, bytes);
                               told.push_back(done);
                               return true;
                             })
                  .ok());
  ASSERT_GE(told.size(), 5u);
  EXPECT_EQ(told.back(), bytes);
  EXPECT_EQ(scrubber_->progress().bytes_verified, bytes);
  EXPECT_EQ(scrubber_->progress().passes, 0u);
}

TEST_F(ScrubberTest, ScrubNowEndsWhenTold) {
  const auto set = Publish("one");
  Start(0);
  int calls = 0;
  const absl::Status status =
      scrubber_->ScrubNow(*set, [&](uint64_t, uint64_t) { return ++calls < 2; });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_EQ(calls, 2);
  EXPECT_LT(scrubber_->progress().bytes_verified, ResidentVerifier::BytesOf(*set));
}

TEST_F(ScrubberTest, KeepsItsRate) {
  const auto set = Publish("one", kManyRows);
  Start(kSlow);
  clock_.AwaitWaiters(1);
  const uint64_t step = scrubber_->progress().bytes_verified;
  ASSERT_GT(step, 0u);
  // It rests for as long as the step's bytes take at its rate, and not a moment less.
  const absl::Duration rest = absl::Seconds(static_cast<double>(step) / (1 << 20));
  clock_.Advance(rest - absl::Milliseconds(1));
  clock_.AwaitWaiters(1);
  EXPECT_EQ(scrubber_->progress().bytes_verified, step);
  clock_.Advance(absl::Milliseconds(1));
  while (scrubber_->progress().bytes_verified == step) std::this_thread::yield();
  clock_.AwaitWaiters(1);
  EXPECT_EQ(scrubber_->progress().bytes_verified, 2 * step);
}

// At 1 MiB/s of a clock that stands the thread rests within the set.
TEST_F(ScrubberTest, LetsGoOfASetThatIsRetired) {
  auto set = Publish("one", kManyRows);
  Start(kSlow);
  clock_.AwaitWaiters(1);
  const ScrubProgress progress = scrubber_->progress();
  EXPECT_EQ(progress.pass_bytes_total, ResidentVerifier::BytesOf(*set));
  EXPECT_LT(progress.pass_bytes_done, progress.pass_bytes_total);
  ASSERT_TRUE(registry_.Retire(set->id()).ok());
  const std::weak_ptr<const TableSet> held = set;
  set.reset();
  while (!held.expired()) std::this_thread::yield();
  WaitForPasses(1);  // what is gone is not waited for
  EXPECT_LT(scrubber_->progress().bytes_verified, progress.pass_bytes_total);
}

TEST_F(ScrubberTest, EndsInTheMiddleOfAPass) {
  const auto set = Publish("one", kManyRows);
  Start(kSlow);
  clock_.AwaitWaiters(1);
  scrubber_.reset();
  EXPECT_EQ(set.use_count(), 2);  // the test's and the store's
}

TEST_F(ScrubberTest, BothWaysAtOnce) {
  const auto set = Publish("one");
  Start(kFast);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(scrubber_->ScrubNow(*set, nullptr).ok());
  WaitForPasses(1);
  EXPECT_GE(scrubber_->progress().bytes_verified, 21 * ResidentVerifier::BytesOf(*set));
  EXPECT_EQ(scrubber_->progress().mismatches, 0u);
}

TEST_F(ScrubberTest, FindsSetsPublishedLater) {
  Start(kFast);
  const auto set = Publish("later");
  WaitForPasses(1);
  EXPECT_GE(scrubber_->progress().bytes_verified, ResidentVerifier::BytesOf(*set));
}

}  // namespace
}  // namespace engram
