#include "memstore/store/resident_verifier.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/store/testing/resident_damage.h"
#include "memstore/store/testing/small_table_set.h"

namespace engram {
namespace {

using ::testing::AllOf;
using testing::FlipResidentBit;
using ::testing::HasSubstr;
using testing::SmallLayer;

constexpr uint64_t kRowBytes = 90;
constexpr uint64_t kRows = 3 * 4096 + 77;

// Two layers, the second of several shards; block_rows 1000 makes blocks that begin within pages
// and a last one of each shard that is shorter.
class ResidentVerifierTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = absl::StrCat(::testing::TempDir(), "/resident_verifier");
    const auto written = testing::WriteSmallTableSet(
        {.layers = {SmallLayer{.layer = 1, .row_bytes = 264, .rows = 5000},
                    SmallLayer{.layer = 14,
                               .row_bytes = static_cast<uint32_t>(kRowBytes),
                               .rows = kRows,
                               .shard_rows = 4096,
                               .block_rows = 1000}}},
        directory_);
    ASSERT_TRUE(written.ok()) << written.status();
  }

  void TearDown() override { std::filesystem::remove_all(directory_); }

  // The directory is gone once it is loaded: what is verified is memory alone.
  std::shared_ptr<const TableSet> Load(bool shareable = false) {
    LoadOptions options;
    options.arena.shareable = shareable;
    auto set = TableSet::Load(directory_, options);
    EXPECT_TRUE(set.ok()) << set.status();
    std::filesystem::remove_all(directory_);
    return *std::move(set);
  }

  std::string directory_;
};

// The bytes of all steps, or the first error.
absl::StatusOr<uint64_t> VerifyAll(const TableSet& set) {
  ResidentVerifier verifier;
  uint64_t bytes = 0;
  for (;;) {
    absl::StatusOr<uint64_t> step = verifier.Step(set);
    if (!step.ok() || *step == 0) return step.ok() ? absl::StatusOr<uint64_t>(bytes) : step;
    bytes += *step;
  }
}

TEST_F(ResidentVerifierTest, GoesThroughEveryByteInSteps) {
  const auto set = Load();
  const absl::StatusOr<uint64_t> bytes = VerifyAll(*set);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, ResidentVerifier::BytesOf(*set));
  EXPECT_GE(*bytes, set->manifest().TableBytes());

  ResidentVerifier verifier;
  const absl::StatusOr<uint64_t> step = verifier.Step(*set);
  ASSERT_TRUE(step.ok());
  EXPECT_GE(*step, ResidentVerifier::kStepBytes);
  EXPECT_LT(*step, *bytes);
}

TEST_F(ResidentVerifierTest, FindsABitAnywhere) {
  const auto set = Load();
  const uint64_t rows_bytes = kRows * kRowBytes;
  const uint64_t bytes = (rows_bytes + 4095) / 4096 * 4096;
  // First and last byte, both sides of a block's and of a shard's edge, padding, and many between.
  std::vector<uint64_t> places = {0,
                                  1000 * kRowBytes - 1,
                                  1000 * kRowBytes,
                                  4096 * kRowBytes - 1,
                                  4096 * kRowBytes,
                                  rows_bytes - 1,
                                  rows_bytes,
                                  bytes - 1};
  for (uint64_t at = 1; at < bytes; at += 9973) places.push_back(at);
  for (const uint64_t at : places) {
    FlipResidentBit(*set, 1, at);
    EXPECT_EQ(VerifyAll(*set).status().code(), absl::StatusCode::kDataLoss) << at;
    FlipResidentBit(*set, 1, at);
  }
  EXPECT_TRUE(VerifyAll(*set).ok());
}

TEST_F(ResidentVerifierTest, NamesWhatIsDamagedAndSaysItAgain) {
  const auto set = Load(/*shareable=*/true);
  FlipResidentBit(*set, 1, (4096 + 1234) * kRowBytes);
  ResidentVerifier verifier;
  absl::StatusOr<uint64_t> step = verifier.Step(*set);
  while (step.ok() && *step > 0) step = verifier.Step(*set);
  EXPECT_EQ(step.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(
      std::string(step.status().message()),
      AllOf(HasSubstr(set->id()), HasSubstr("table set small"),
            HasSubstr("rows 5096..6095 of layer 14"), HasSubstr("block 1 of layer14-1.rows"),
            HasSubstr("publish it again or another set of its name, or start engramd")));
  EXPECT_EQ(verifier.Step(*set).status(), step.status());
}

// Of a part the blocks that are held, which are whole where columns are not.
TEST_F(ResidentVerifierTest, GoesThroughWhatIsHeldOfAPart) {
  ASSERT_TRUE(testing::WriteSmallTableSet(
                  {.layers = {SmallLayer{
                       .layer = 14, .row_bytes = 264, .rows = 3 * 5000, .block_rows = 1000}},
                   .columns = 3},
                  directory_)
                  .ok());
  LoadOptions options;
  options.partition = PartitionIndex{1, 3};
  const auto set = TableSet::Load(directory_, options);
  ASSERT_TRUE(set.ok()) << set.status();
  std::filesystem::remove_all(directory_);
  // Rows 5000 to 9999: blocks 0 (from row 4096) to 4 of the second shard, 0 and 1 of the third.
  const uint64_t rows = 4096 + 2000;
  EXPECT_EQ(ResidentVerifier::BytesOf(**set), rows * 264);
  const absl::StatusOr<uint64_t> bytes = VerifyAll(**set);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, rows * 264);
  for (const uint64_t row : {4096, 5000, 8191, 8192, 9999, 10191}) {
    FlipResidentBit(**set, 0, row * 264);
    EXPECT_EQ(VerifyAll(**set).status().code(), absl::StatusCode::kDataLoss) << row;
    FlipResidentBit(**set, 0, row * 264);
  }
  EXPECT_TRUE(VerifyAll(**set).ok());
}

}  // namespace
}  // namespace engram
