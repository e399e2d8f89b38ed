// engram pack of rows as they are, and of GGUF, as a person calls it: flags, exit codes, what
// inspect then shows.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/support/command.h"
#include "client/cli/support/command_test_base.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/families.h"
#include "memstore/gguf/testing/small_gguf.h"
#include "memstore/pack/testing/small_checkpoint.h"

namespace engram::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing_checkpoint::SomeBytes;

constexpr char kFamily[] = "qwen4-exp";
constexpr uint64_t kRowsPerHead = 50;

class PackRowsTest : public CommandTest {
 protected:
  PackRowsTest() : CommandTest({AddPackCommand, AddVerifyCommand, AddInspectCommand}) {}

  int Pack(std::vector<std::string> more) {
    std::vector<std::string> arguments = {"pack",
                                          "--family",
                                          kFamily,
                                          "--output",
                                          Path("set"),
                                          "--rows-per-head",
                                          absl::StrCat(kRowsPerHead)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Run(arguments);
  }
  nlohmann::json InspectedLayer() {
    EXPECT_EQ(Run({"verify", Path("set")}), kDone) << said_;
    EXPECT_EQ(Run({"inspect", Path("set"), "--json"}), kDone) << said_;
    return nlohmann::json::parse(printed_)["layers"][0];
  }
};

uint64_t TableRows() {
  return Derive(**FindFamily(kFamily), {kRowsPerHead, {}}).value().layers[0].Rows();
}

TEST_F(PackRowsTest, PacksNamedTensorsWithAnEncodingThatInspectShows) {
  const uint64_t rows = TableRows();
  const std::string stem = "model.layers.1.ple.ple_embedding.ngram_embedding.";
  testing_checkpoint::WriteText(
      Path("model.safetensors"),
      testing_checkpoint::FileText(
          {{stem + "weight", "U8", {rows, 80}, SomeBytes(1, rows * 80)},
           {stem + "weight_scale", "F8_E4M3", {rows, 10}, SomeBytes(2, rows * 10)}}));
  const std::vector<std::string> rows_flags = {"--checkpoint", dir_, "--rows",
                                               "ngram_embedding.weight,weight_scale"};
  EXPECT_EQ(Pack(rows_flags), kBadUsage);
  EXPECT_THAT(said_, HasSubstr("--encoding NAME"));
  std::vector<std::string> flags = rows_flags;
  flags.insert(flags.end(), {"--encoding", "nvfp4"});
  ASSERT_EQ(Pack(flags), kDone) << said_;
  const nlohmann::json layer = InspectedLayer();
  EXPECT_EQ(layer["row_bytes"], 90);
  EXPECT_EQ(layer["encoding"], "opaque");
  EXPECT_EQ(layer["label"], "nvfp4");
  ASSERT_EQ(Run({"inspect", Path("set")}), kDone);
  EXPECT_THAT(printed_, HasSubstr("nvfp4 x 160"));
}

TEST_F(PackRowsTest, PacksGguf) {
  const uint64_t rows = TableRows();
  testing_gguf::Write(
      Path("m.gguf"),
      {.keys = {testing_gguf::Uint32("qwen4exp.ple.ngram_size", 3)},
       .tensors = {{"table", testing_gguf::kQ8_0, {160, rows}, SomeBytes(3, rows * 170)}}});
  EXPECT_EQ(Pack({"--gguf", Path("m.gguf")}), kFailed);
  EXPECT_THAT(said_, HasSubstr("--gguf-tensor"));
  EXPECT_FALSE(fs::exists(Path("set")));
  ASSERT_EQ(Pack({"--gguf", Path("m.gguf"), "--gguf-tensor", "table"}), kDone) << said_;
  EXPECT_EQ(InspectedLayer()["label"], "gguf_q8_0");
  for (const std::string& given : {Path("m.gguf"), dir_.string()}) {
    fs::remove_all(Path("set"));
    EXPECT_EQ(Pack({"--checkpoint", given}), kFailed);
    EXPECT_THAT(said_, HasSubstr(absl::StrCat("--gguf ", Path("m.gguf"))));
  }
}

TEST_F(PackRowsTest, BadUsageIsTwo) {
  const std::vector<std::vector<std::string>> bad = {
      {"--rows", "a", "--encoding", "x"},
      {"--synthetic", "--rows", "a", "--encoding", "x"},
      {"--synthetic", "--encoding", "x"},
      {"--gguf", "x", "--rows", "a"},
      {"--gguf", "x", "--checkpoint", "x"},
      {"--gguf", "x", "--synthetic"},
      {"--gguf", "x", "--gguf-tensor", "a.{rank}"},
      {"--gguf", "x", "--encoding", "a/b"},
      {"--gguf", "x", "--encoding", "bf16"},
      {"--checkpoint", "x", "--gguf-tensor", "a"},
      {"--checkpoint", "x", "--encoding", "x"},
      {"--checkpoint", "x", "--rows", "a"},
      {"--checkpoint", "x", "--rows", "a,a", "--encoding", "x"},
  };
  for (const std::vector<std::string>& flags : bad) {
    EXPECT_EQ(Pack(flags), kBadUsage) << testing::PrintToString(flags);
    EXPECT_NE(said_, "");
    EXPECT_FALSE(fs::exists(Path("set")));
  }
}

}  // namespace
}  // namespace engram::cli
