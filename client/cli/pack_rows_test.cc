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
using ::testing::Not;
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
  EXPECT_THAT(printed_, HasSubstr("\n  read model.safetensors: layer 1 (2 tensors, a file of "));
}

TEST_F(PackRowsTest, InspectShowsTheScaleOfAWholeTable) {
  const uint64_t rows = TableRows();
  const std::string stem = "model.layers.1.ple.ple_embedding.ngram_embedding.";
  const float scale = 0.1f;  // no number that few digits say
  const std::string scale_bytes(reinterpret_cast<const char*>(&scale), sizeof(scale));
  testing_checkpoint::WriteText(
      Path("model.safetensors"),
      testing_checkpoint::FileText(
          {{stem + "weight", "U8", {rows, 80}, SomeBytes(1, rows * 80)},
           {stem + "weight_scale", "F8_E4M3", {rows, 10}, SomeBytes(2, rows * 10)},
           {stem + "weight_scale_2", "F32", {1}, scale_bytes}}));
  const std::string codes = "ngram_embedding.weight,weight_scale";
  ASSERT_EQ(Pack({"--checkpoint", dir_, "--encoding", "nvfp4", "--rows", codes}), kDone) << said_;
  EXPECT_FALSE(InspectedLayer().contains("global_scale"));
  ASSERT_EQ(Run({"inspect", Path("set")}), kDone) << said_;
  EXPECT_THAT(printed_, Not(HasSubstr("global scale")));
  fs::remove_all(Path("set"));
  ASSERT_EQ(
      Pack({"--checkpoint", dir_, "--encoding", "nvfp4", "--rows", codes + ",weight_scale_2"}),
      kDone)
      << said_;
  const nlohmann::json layer = InspectedLayer();
  ASSERT_TRUE(layer.contains("global_scale"));
  EXPECT_EQ(layer["global_scale"].get<float>(), scale);
  ASSERT_EQ(Run({"inspect", Path("set")}), kDone) << said_;
  EXPECT_THAT(printed_, HasSubstr("  global scale 0.100000001\n"));
}

// A name is another's, and can hold anything: it is shown, and not obeyed.
TEST_F(PackRowsTest, InspectEscapesTheNamesOfFilesThatWereRead) {
  const uint64_t rows = TableRows();
  const std::string name = "a\x1b[2J\nid .safetensors";
  testing_checkpoint::WriteText(
      Path(name),
      testing_checkpoint::FileText({{"model.layers.1.ple.ple_embedding.ngram_embedding.weight",
                                     "BF16",
                                     {rows, 160},
                                     SomeBytes(1, rows * 320)}}));
  ASSERT_EQ(Pack({"--checkpoint", dir_}), kDone) << said_;
  ASSERT_EQ(Run({"inspect", Path("set")}), kDone) << said_;
  EXPECT_THAT(printed_, HasSubstr("\n  read a\\x1b[2J\\nid .safetensors: layer 1 (1 tensor, "));
  ASSERT_EQ(Run({"inspect", Path("set"), "--json"}), kDone) << said_;
  const nlohmann::json from = nlohmann::json::parse(printed_)["read_from"];
  ASSERT_EQ(from["files"].size(), 1u);
  EXPECT_EQ(from["files"][0]["path"], name);
  EXPECT_EQ(from["files"][0]["bytes"], fs::file_size(Path(name)));
  EXPECT_EQ(from["files"][0]["layers"], nlohmann::json::array({1}));
  EXPECT_EQ(from["files"][0]["tensors"], 1);
  EXPECT_EQ(from["left_out"], 0);
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
  EXPECT_EQ(nlohmann::json::parse(printed_)["read_from"]["files"][0]["path"], "m.gguf");
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
