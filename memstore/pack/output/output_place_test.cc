#include "memstore/pack/output/output_place.h"

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

TEST(OutputPlaceTest, RefusesNamesThatAreTakenForTheCheckpointsFiles) {
  const fs::path dir = fs::path(testing::TempDir()) / "output_place_test";
  fs::remove_all(dir);
  fs::create_directories(dir / "model" / "sub");
  fs::create_symlink("model", dir / "link");
  const std::string model = dir / "model";
  for (const char* output :
       {"model/set.safetensors", "link/set.safetensors", "model/sub/../config.json/",
        "model/model.safetensors.incomplete", "model/A.JSON"}) {
    const absl::Status status = CheckOutputBesideCheckpoint(dir / output, model);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << output;
    EXPECT_THAT(std::string(status.message()), HasSubstr(output));
  }
  for (const char* output :
       {"model/set", "model/v4.1", "model/sub/set.json", "set.json", "model", "none/set.json"}) {
    EXPECT_TRUE(CheckOutputBesideCheckpoint(dir / output, model).ok()) << output;
  }
  EXPECT_TRUE(CheckOutputBesideCheckpoint(dir / "set.json", dir / "none").ok());
  fs::remove_all(dir);
}

}  // namespace
}  // namespace engram
