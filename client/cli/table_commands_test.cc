// engram pack, verify and inspect, as a person calls them: exit codes, messages, what is left
// behind.

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/cli/support/command.h"
#include "client/cli/support/command_test_base.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/families.h"
#include "memstore/base/human_units.h"
#include "memstore/base/sha256.h"
#include "memstore/os/posix_file.h"
#include "memstore/pack/testing/small_checkpoint.h"
#include "memstore/table/manifest.h"

namespace engram::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr char kV41[] = "deepseek-v4.1-flash";
constexpr char kV41Map[] = "tests/golden/deepseek_v41_token_map.i32";
constexpr char kV3Map[] = "tests/golden/deepseek_v3_token_map.i32";

class TableCommandsTest : public CommandTest {
 protected:
  TableCommandsTest() : CommandTest({AddPackCommand, AddVerifyCommand, AddInspectCommand}) {}

  size_t Entries() const { return std::distance(fs::directory_iterator(dir_), {}); }
  int PackSmallV41(std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {
        "pack", "--synthetic", "--family", kV41,       "--rows-per-head",
        "100",  "--token-map", kV41Map,    "--output", Path("set")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Run(arguments);
  }
};

TEST_F(TableCommandsTest, PacksVerifiesAndInspects) {
  ASSERT_EQ(PackSmallV41({"--layers", "14", "--name", "mine"}), kDone) << said_;
  EXPECT_EQ(printed_, "");
  EXPECT_EQ(Run({"verify", Path("set")}), kDone) << said_;
  EXPECT_THAT(printed_, HasSubstr("whole"));
  ASSERT_EQ(Run({"verify", Path("set"), "--json"}), kDone) << said_;
  const nlohmann::json verified = nlohmann::json::parse(printed_);
  ASSERT_EQ(Run({"inspect", Path("set"), "--json"}), kDone) << said_;
  EXPECT_EQ(verified["id"], nlohmann::json::parse(printed_)["id"]);
  EXPECT_EQ(verified["whole"], true);
  const nlohmann::json found = nlohmann::json::parse(printed_);
  const uint64_t rows = Derive(**FindFamily(kV41), {100, {14}}).value().layers[0].Rows();
  EXPECT_EQ(found["id"].get<std::string>().size(), 64u);
  EXPECT_EQ(found["name"], "mine");
  EXPECT_EQ(found["family"], kV41);
  EXPECT_EQ(found["bytes"], rows * 264);
  EXPECT_EQ(found["files"], 5);
  EXPECT_EQ(found["layers"], nlohmann::json::parse(absl::StrCat(
                                 R"([{"layer": 14, "row_bytes": 264, "shards": 1, "rows": )", rows,
                                 R"(, "encoding": "fp8_e4m3_ue8m0_block32"}])")));
  EXPECT_EQ(found["orders"], nlohmann::json({2, 3, 4}));
  EXPECT_EQ(found["heads"], 8);
  EXPECT_EQ(found["columns"], 24);
  EXPECT_EQ(found["vocab_size"].get<uint64_t>() * 4, fs::file_size(kV41Map));
  EXPECT_EQ(found["token_map"]["file"], "token_map.i32");
  EXPECT_EQ(found["token_map"]["bytes"], fs::file_size(kV41Map));
  EXPECT_EQ(found["token_map"]["sha256"], Sha256Hex(ReadAll(kV41Map)));
  EXPECT_GT(found["token_map"]["compressed_vocab_size"], 0);
  EXPECT_EQ(printed_.find("\"id\""), printed_.find('"'));  // first, for those who read it by place
  ASSERT_EQ(Run({"inspect", Path("set")}), kDone);
  for (const char* part : {"mine", "fp8_e4m3_ue8m0_block32", "synthetic", "Only the manifest"}) {
    EXPECT_THAT(printed_, HasSubstr(part));
  }
  EXPECT_THAT(printed_, HasSubstr(absl::StrCat("rows    ", rows * 264, " bytes (")));
  EXPECT_THAT(printed_, HasSubstr(" MiB) in "));
}

// A script takes the id from there.
TEST_F(TableCommandsTest, PackSaysWhatItPackedInJson) {
  ASSERT_EQ(PackSmallV41({"--json"}), kDone) << said_;
  EXPECT_THAT(said_, testing::StartsWith("packed "));
  const nlohmann::json packed = nlohmann::json::parse(printed_);
  EXPECT_EQ(packed["id"], LoadManifest(Path("set")).value().id);
  EXPECT_EQ(packed["output"], Path("set"));
  EXPECT_EQ(packed["name"], kV41);
  EXPECT_EQ(packed["layers"], 2);
  EXPECT_EQ(packed["linked"], false);
  EXPECT_THAT(said_, HasSubstr(HumanBytes(packed["bytes"].get<uint64_t>()) + " of rows, id "));
}

// An empty value is no flag that was left out.
TEST_F(TableCommandsTest, PackRefusesEmptyValues) {
  for (const char* flag : {"--name", "--layers", "--token-map", "--source", "--checkpoint",
                           "--link", "--gguf", "--rows", "--gguf-tensor", "--encoding"}) {
    EXPECT_EQ(PackSmallV41({flag, ""}), kBadUsage) << flag;
    EXPECT_THAT(said_, HasSubstr(flag)) << flag;
    EXPECT_FALSE(fs::exists(Path("set")));
  }
}

TEST_F(TableCommandsTest, PackCountsItsLayers) {
  ASSERT_EQ(PackSmallV41({"--layers", "14"}), kDone) << said_;
  EXPECT_THAT(said_, HasSubstr(", 1 layer, "));
  fs::remove_all(Path("set"));
  ASSERT_EQ(PackSmallV41(), kDone) << said_;
  EXPECT_THAT(said_, HasSubstr(", 2 layers, "));
}

TEST_F(TableCommandsTest, PacksACheckpoint) {
  const AddressScheme scheme = Derive(**FindFamily("qwen4-exp"), {50, {}}).value();
  const uint64_t rows = scheme.layers[0].Rows();
  testing_checkpoint::WriteText(Path("model.safetensors"),
                                testing_checkpoint::FileText({testing_checkpoint::QwenTable(
                                    testing_checkpoint::SomeBytes(1, rows * 320))}));
  const std::vector<std::string> pack = {"pack", "--family", "qwen4-exp", "--checkpoint",
                                         dir_,   "--output", Path("set")};
  EXPECT_EQ(Run(pack), kFailed);  // not of the family's full size
  EXPECT_THAT(said_, HasSubstr("--rows-per-head"));
  EXPECT_FALSE(fs::exists(Path("set")));
  std::vector<std::string> scaled = pack;
  scaled.insert(scaled.end(), {"--rows-per-head", "50"});
  EXPECT_EQ(Run(scaled), kDone) << said_;
  EXPECT_THAT(said_, HasSubstr("note: config.json was not compared"));
  EXPECT_EQ(Run({"verify", Path("set")}), kDone) << said_;
  ASSERT_EQ(Run({"inspect", Path("set"), "--json"}), kDone) << said_;
  EXPECT_TRUE(nlohmann::json::parse(printed_)["token_map"].is_null());
  fs::remove_all(Path("set"));
  testing_checkpoint::WriteText(
      Path("config.json"),
      R"({"text_config": {"ngram_vocab_size_base": 50, "eos_token_id": [5, 6]}})");
  EXPECT_EQ(Run(pack), kFailed);
  EXPECT_THAT(said_, HasSubstr("--reset-token-id"));
  std::vector<std::string> told = pack;
  told.insert(told.end(), {"--reset-token-id", "6"});
  EXPECT_EQ(Run(told), kDone) << said_;
  EXPECT_EQ(LoadManifest(Path("set")).value().scheme.reset_token_id, 6u);
  told.push_back("--use-stored-constants");
  EXPECT_EQ(Run(told), kFailed);
  EXPECT_THAT(said_, HasSubstr("no tensor that holds constants"));
  EXPECT_EQ(Run({"pack", "--family", "qwen4-exp", "--checkpoint", dir_, "--output",
                 Path("set.safetensors")}),
            kBadUsage);
  EXPECT_THAT(said_, HasSubstr("the checkpoint's own directory"));
}

TEST_F(TableCommandsTest, BadUsageIsTwoAndLeavesNothing) {
  const std::vector<std::vector<std::string>> bad = {
      {},
      {"--synthetic"},
      {"--synthetic", "--family", "no-such-family"},
      {"--family", "qwen4-exp"},  // neither a checkpoint nor synthetic
      {"--family", "qwen4-exp", "--synthetic", "--checkpoint", "x"},
      {"--family", "qwen4-exp", "--checkpoint", "x", "--layers", "1"},
      {"--family", "qwen4-exp", "--synthetic", "--rows-per-head", "0"},
      {"--family", "qwen4-exp", "--synthetic", "--rows-per-head", "many"},
      {"--family", "qwen4-exp", "--synthetic", "--layers", "2,1"},
      {"--family", "qwen4-exp", "--synthetic", "--layers", "1,65536"},
      {"--family", "qwen4-exp", "--synthetic", "--name", "a/b"},
      {"--family", "qwen4-exp", "--checkpoint", "x", "--name", ".a"},
      {"--family", "qwen4-exp", "--synthetic", "--token-map", kV41Map},
      {"--family", "qwen4-exp", "--synthetic", "--use-stored-constants"},
      {"--family", "qwen4-exp", "--synthetic", "--reset-token-id", "2"},
      {"--family", "qwen4-exp", "--checkpoint", "x", "--reset-token-id", "-1"},
      {"--family", kV41, "--checkpoint", "x", "--token-map", kV41Map, "--reset-token-id", "2"},
      {"--family", "qwen4-exp", "--synthetic", "--source", "a\nb"},
      {"--family", kV41, "--synthetic"},
  };
  for (std::vector<std::string> arguments : bad) {
    arguments.insert(arguments.begin(), "pack");
    arguments.insert(arguments.end(), {"--output", Path("set")});
    EXPECT_EQ(Run(arguments), kBadUsage) << testing::PrintToString(arguments);
    EXPECT_NE(said_, "");
    EXPECT_EQ(Entries(), 0u);
  }
  EXPECT_THAT(said_, HasSubstr("--token-map FILE"));  // the last: how to get a token map
  EXPECT_THAT(said_, HasSubstr(std::string((*FindFamily(kV41))->token_map_source)));
  for (const char* output : {"", ".", "..", "/"}) {
    EXPECT_EQ(Run({"pack", "--synthetic", "--family", "qwen4-exp", "--rows-per-head", "100",
                   "--output", output}),
              kBadUsage);
    EXPECT_THAT(said_, HasSubstr("output"));
  }
  EXPECT_EQ(Run({"verify"}), kBadUsage);
  EXPECT_EQ(Run({"inspect"}), kBadUsage);
}

TEST_F(TableCommandsTest, FailedWorkIsOneAndLeavesNothing) {
  EXPECT_EQ(Run({"pack", "--synthetic", "--family", kV41, "--rows-per-head", "100", "--token-map",
                 kV3Map, "--output", Path("set")}),
            kFailed);
  EXPECT_THAT(said_, HasSubstr(kV3Map));
  EXPECT_EQ(
      Run({"pack", "--family", "qwen4-exp", "--checkpoint", Path("none"), "--output", Path("set")}),
      kFailed);
  EXPECT_EQ(Entries(), 0u);
  ASSERT_EQ(PackSmallV41(), kDone);
  EXPECT_EQ(PackSmallV41(), kFailed);
  EXPECT_THAT(said_, HasSubstr("exists already"));
  EXPECT_EQ(Run({"verify", Path("none")}), kFailed);
  EXPECT_EQ(Run({"inspect", Path("none")}), kFailed);
  EXPECT_THAT(said_, HasSubstr(Path("none")));
}

// A manifest that anyone can write: its digest holds, its family is neither UTF-8 nor harmless.
TEST_F(TableCommandsTest, InspectRefusesAFamilyThatIsNoPlainName) {
  ASSERT_EQ(PackSmallV41(), kDone);
  const std::string path = Path("set/manifest.textproto");
  const std::string text = ReadWholeFile(path, 1 << 20).value();
  for (const char* family : {"\\377", "\\033[2Jclean"}) {
    const std::string forged = absl::StrReplaceAll(
        text, {{absl::StrCat("family: \"", kV41), absl::StrCat("family: \"", family)}});
    ASSERT_NE(forged, text);
    std::ofstream(path, std::ios::binary) << forged;
    std::ofstream(Path("set/manifest.sha256")) << Sha256Hex(forged) << "\n";
    for (const std::vector<std::string>& more : {std::vector<std::string>{}, {"--json"}}) {
      std::vector<std::string> arguments = {"inspect", Path("set")};
      arguments.insert(arguments.end(), more.begin(), more.end());
      EXPECT_EQ(Run(arguments), kFailed);
      EXPECT_EQ(printed_, "");
      EXPECT_THAT(said_, HasSubstr("family is \"\\x"));
    }
  }
}

TEST_F(TableCommandsTest, InspectSaysWhatAPartHolds) {
  ASSERT_EQ(PackSmallV41(), kDone) << said_;
  ASSERT_EQ(Run({"inspect", Path("set")}), kDone) << said_;
  EXPECT_EQ(printed_.find("part  "), std::string::npos);
  ASSERT_EQ(Run({"inspect", Path("set"), "--partition", "1/4"}), kDone) << said_;
  EXPECT_THAT(printed_, HasSubstr("part    columns 2..3, 10..11, 18..19, "));
  ASSERT_EQ(Run({"inspect", Path("set"), "--partition", "0/1"}), kDone) << said_;
  EXPECT_THAT(printed_, HasSubstr("part    all columns, "));
  uint64_t bytes = 0;
  for (const char* part : {"0/3", "1/3", "2/3"}) {
    ASSERT_EQ(Run({"inspect", Path("set"), "--json", "--partition", part}), kDone) << said_;
    bytes += nlohmann::json::parse(printed_)["part"]["bytes"].get<uint64_t>();
  }
  EXPECT_EQ(nlohmann::json::parse(printed_)["bytes"], bytes);
  EXPECT_EQ(Run({"inspect", Path("set"), "--partition", "4/4"}), kFailed);
  EXPECT_THAT(said_, HasSubstr("0 to 3"));
}

TEST_F(TableCommandsTest, InspectSaysWhereASetIsFrom) {
  ASSERT_EQ(PackSmallV41({"--source", "maker/model@0123abcd"}), kDone) << said_;
  ASSERT_EQ(Run({"inspect", Path("set")}), kDone) << said_;
  EXPECT_THAT(printed_, HasSubstr("source  maker/model@0123abcd, packed 20"));
  EXPECT_THAT(printed_, HasSubstr("checksums of every 4 KiB page, in 2 files"));
  ASSERT_EQ(Run({"inspect", Path("set"), "--json"}), kDone) << said_;
  const nlohmann::json found = nlohmann::json::parse(printed_);
  EXPECT_EQ(found["provenance"]["source_kind"], "synthetic");
  EXPECT_EQ(found["provenance"]["repository"], "maker/model");
  EXPECT_EQ(found["provenance"]["revision"], "0123abcd");
  EXPECT_TRUE(found["provenance"]["path"].is_null());
  EXPECT_TRUE(found["read_from"].is_null());
  EXPECT_EQ(found["provenance"]["packed_at"].get<std::string>().size(), 20u);
  EXPECT_EQ(found["image_token_ids"], nlohmann::json::array({129264}));
  EXPECT_EQ(found["side_files"], nlohmann::json({"provenance.side", "image-token-ids.side",
                                                 "layer01-00000.page-checksums.side",
                                                 "layer14-00000.page-checksums.side"}));
  // Damaged it is refused, absent it is not missed.
  const std::string file = Path("set/provenance.side");
  std::ofstream(file, std::ios::app) << "x";
  for (const char* command : {"inspect", "verify"}) {
    EXPECT_EQ(Run({command, Path("set")}), kFailed) << command;
    EXPECT_THAT(said_, HasSubstr(file));
    EXPECT_THAT(said_, HasSubstr("may be deleted"));
  }
  fs::remove(file);
  EXPECT_EQ(Run({"verify", Path("set")}), kDone) << said_;
  ASSERT_EQ(Run({"inspect", Path("set"), "--json"}), kDone) << said_;
  EXPECT_TRUE(nlohmann::json::parse(printed_)["provenance"].is_null());
}

// Repositories without an owner exist: the name is taken as it is.
TEST_F(TableCommandsTest, ASourceNeedsNoOwner) {
  ASSERT_EQ(PackSmallV41({"--source", "gpt2"}), kDone) << said_;
  ASSERT_EQ(Run({"inspect", Path("set")}), kDone) << said_;
  EXPECT_THAT(printed_, HasSubstr("source  gpt2, packed 20"));
  ASSERT_EQ(Run({"inspect", Path("set"), "--json"}), kDone) << said_;
  const nlohmann::json found = nlohmann::json::parse(printed_);
  EXPECT_EQ(found["provenance"]["repository"], "gpt2");
  EXPECT_TRUE(found["provenance"]["revision"].is_null());
}

TEST_F(TableCommandsTest, VerifyNamesWhatIsDamaged) {
  ASSERT_EQ(PackSmallV41(), kDone);
  std::fstream file(Path("set/layer14-00000.rows"),
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(5000);
  file.put('\x7a').put('\x7b');
  file.close();
  EXPECT_EQ(Run({"verify", Path("set")}), kFailed);
  EXPECT_THAT(said_, HasSubstr("layer14-00000.rows: block 0 (bytes 4096.."));
  EXPECT_EQ(printed_, "");
  EXPECT_EQ(Run({"inspect", Path("set")}), kDone);
}

}  // namespace
}  // namespace engram::cli
