#include "server/table_sets/checkpoint_set.h"

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/pack/testing/small_checkpoint.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(CheckpointSetTest, WhereAKeptSetsRowsAreOthersThereIsAWayOut) {
  const absl::Status status =
      WithFixOfKeptSet(absl::DataLossError("rows lack their checksum"), "/state/linked-checkpoint");
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("rows lack their checksum"),
                    HasSubstr("remove /state/linked-checkpoint and start engramd again")));
  // Of others the set is not at fault.
  for (const absl::Status& other : {absl::OkStatus(), absl::ResourceExhaustedError("too large")}) {
    EXPECT_EQ(WithFixOfKeptSet(other, "/state/linked-checkpoint"), other);
  }
}

// In a path the letters of a flag are none.
TEST(CheckpointSetTest, FlagsOfPackingAreSaidWhereAMessageNamesThem) {
  const fs::path model = fs::path(testing::TempDir()) / "models--gguf-org--x";
  fs::remove_all(model);
  const CheckpointSource source{
      .checkpoint = model, .family = "qwen4-exp", .rows_per_head = 500, .token_map = ""};
  testing_checkpoint::WriteCheckpoint(
      model, {{"model.safetensors",
               {{"model.language_model.layers.1.ple.ple_embedding.ngram_embedding.shard_0.weight",
                 "BF16",
                 {1, 161},
                 std::string(322, '\0')}}}});
  const absl::Status wide = CheckCheckpointSource(source).status();
  EXPECT_EQ(wide.code(), absl::StatusCode::kFailedPrecondition) << wide;
  EXPECT_THAT(std::string(wide.message()),
              AllOf(HasSubstr(model.string()), Not(HasSubstr("flags of `engram pack`"))));
  fs::remove_all(model);
  fs::create_directories(model);
  testing_checkpoint::WriteText(model / "model.gguf", "GGUF\3");
  EXPECT_THAT(std::string(CheckCheckpointSource(source).status().message()),
              HasSubstr("flags of `engram pack`"));
  fs::remove_all(model);
}

}  // namespace
}  // namespace engram
