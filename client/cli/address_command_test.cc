#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/support/command.h"
#include "client/cli/support/command_test_base.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/families.h"
#include "memstore/base/sha256.h"
#include "memstore/table/manifest.h"
#include "memstore/table/shard_layout.h"
#include "memstore/table/side_file.h"
#include "memstore/table/side_files.h"

namespace engram::cli {
namespace {

using ::testing::HasSubstr;

constexpr char kV41Map[] = "tests/golden/deepseek_v41_token_map.i32";
constexpr char kV3Map[] = "tests/golden/deepseek_v3_token_map.i32";
constexpr char kTokenStream[] = "tests/golden/tokens_en_handbook.i32";

template <typename T>
std::string Raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

struct BadCall {
  std::vector<std::string> arguments;
  int code;
  std::string says;
};

class AddressCommandTest : public CommandTest {
 protected:
  AddressCommandTest() : CommandTest({AddAddressCommand}) {}

  // `engram address ARGUMENTS --output out`.
  int Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "address");
    arguments.insert(arguments.end(), {"--output", Path("out")});
    return CommandTest::Run(std::move(arguments));
  }
  void ExpectRefused(const std::vector<BadCall>& calls) {
    for (const BadCall& call : calls) {
      EXPECT_EQ(Run(call.arguments), call.code) << said_;
      EXPECT_THAT(said_, HasSubstr(call.says));
      EXPECT_FALSE(HasOutput()) << said_;
    }
  }
  bool HasOutput() const { return std::filesystem::exists(Path("out")); }
  std::string Digest() const { return Sha256Hex(ReadAll(Path("out"))); }
};

// A table set's directory with everything that addressing reads; the row files are not there.
void WriteTableSet(const std::string& directory, absl::string_view family) {
  Manifest manifest;
  manifest.name = std::string(family);
  manifest.scheme = Derive(**FindFamily(family), {.rows_per_head = 1000}).value();
  for (const LayerAddressing& layer : manifest.scheme.layers) {
    const std::string name = absl::StrCat("layer", layer.layer);
    const ShardSpec shard = {
        name + ".rows", name + ".crc32c", 0, layer.Rows(), 1024, ShardFileBytes(layer.Rows(), 264),
        Sha256Hex(name)};
    manifest.layers.push_back({layer.layer,
                               layer.Rows(),
                               264,
                               {RowEncodingKind::kFp8E4m3Ue8m0Block32, 256, 0},
                               {shard},
                               true});
  }
  const absl::StatusOr<Manifest> finished = FinishManifest(manifest);
  ASSERT_TRUE(finished.ok()) << finished.status();
  std::filesystem::create_directories(directory);
  std::ofstream(directory + "/" + kManifestFile) << finished->text;
  std::ofstream(directory + "/" + kManifestDigestFile) << finished->id << "\n";
  std::filesystem::copy_file(kV41Map, directory + "/" + kTokenMapFile);
}

TEST_F(AddressCommandTest, NeverWritesOverItsTokens) {
  const std::string tokens = Write("tokens", std::string(8, '\1'));
  EXPECT_EQ(CommandTest::Run(
                {"address", "--family", "qwen4-exp", "--token-ids", tokens, "--output", tokens}),
            kBadUsage);
  EXPECT_THAT(said_, HasSubstr("--token-ids"));
  EXPECT_EQ(ReadAll(tokens), std::string(8, '\1'));
}

TEST_F(AddressCommandTest, WritesTheKnownAnswers) {
  const nlohmann::json golden =
      nlohmann::json::parse(ReadAll("tests/golden/known_answers.json"))["deepseek_v41_flash"];
  for (const auto& [name, one] : golden["cases"].items()) {
    SCOPED_TRACE(name);
    const std::string ids = Write("ids", Raw(one["raw"].get<std::vector<int32_t>>()));
    std::vector<std::string> arguments = {"--family", "deepseek-v4.1-flash", "--token-map",
                                          kV41Map,    "--token-ids",         ids};
    if (!one["mask"].is_null()) {
      std::vector<uint8_t> dead;
      for (const int live : one["mask"]) dead.push_back(live == 0 ? 255 : 0);
      arguments.insert(arguments.end(), {"--dead-mask", Write("dead", Raw(dead))});
    }
    EXPECT_EQ(Run(arguments), kDone) << said_;
    EXPECT_EQ(Digest(), one["sha256_i64"].get<std::string>());
  }
}

TEST_F(AddressCommandTest, AnyChunkGivesTheSameBytes) {
  const std::string ids = Write("ids", ReadAll(kTokenStream).substr(0, 40000));
  const std::vector<std::string> arguments = {"--family", "deepseek-v4.1-flash", "--token-map",
                                              kV41Map,    "--token-ids",         ids};
  ASSERT_EQ(Run(arguments), kDone) << said_;
  const std::string whole = Digest();
  for (const char* const chunk : {"1", "3", "64", "1000", "4097", "10000", "4294967296"}) {
    std::vector<std::string> chunked = arguments;
    chunked.insert(chunked.end(), {"--chunk-tokens", chunk});
    EXPECT_EQ(Run(chunked), kDone) << said_;
    EXPECT_EQ(Digest(), whole) << chunk;
  }
}

TEST_F(AddressCommandTest, ATableSetGivesWhatItsFamilyGives) {
  WriteTableSet(Path("set"), "deepseek-v4.1-flash");
  const std::string ids = Write("ids", ReadAll(kTokenStream).substr(0, 2000));
  ASSERT_EQ(Run({"--table-set", Path("set"), "--token-ids", ids}), kDone) << said_;
  const std::string by_set = Digest();
  ASSERT_EQ(Run({"--family", "deepseek-v4.1-flash", "--token-map", kV41Map, "--rows-per-head",
                 "1000", "--token-ids", ids}),
            kDone)
      << said_;
  EXPECT_EQ(Digest(), by_set);
}

TEST_F(AddressCommandTest, NoTokensGiveNoRows) {
  ASSERT_EQ(Run({"--family", "qwen4-exp", "--token-ids", Write("ids", "")}), kDone) << said_;
  EXPECT_EQ(ReadAll(Path("out")), "");
}

TEST_F(AddressCommandTest, EveryFormOfTheSameIdsGivesTheSameBytes) {
  const std::vector<int32_t> ids = {5, 6, 7, 8, 9, 10};
  const std::vector<int64_t> wide(ids.begin(), ids.end());
  const auto npy = [](const std::string& type, const std::string& array) {
    std::string header = "{'descr': '" + type + "', 'fortran_order': False, 'shape': (6,), }";
    header.append(117 - header.size(), ' ');
    return std::string("\x93NUMPY\1\0v\0", 10) + header + "\n" + array;
  };
  ASSERT_EQ(Run({"--family", "qwen4-exp", "--token-ids", Write("ids", Raw(ids))}), kDone) << said_;
  const std::string raw = Digest();
  for (const std::vector<std::string>& form :
       {std::vector<std::string>{Write("a.npy", npy("<i4", Raw(ids)))},
        {Write("b.npy", npy("<i8", Raw(wide)))},
        {Write("c.npy", npy("<u4", Raw(ids)))},
        {Write("wide", Raw(wide)), "--token-ids-type", "int64"}}) {
    std::vector<std::string> arguments = {"--family", "qwen4-exp", "--token-ids"};
    arguments.insert(arguments.end(), form.begin(), form.end());
    ASSERT_EQ(Run(arguments), kDone) << said_;
    EXPECT_EQ(Digest(), raw) << form[0];
  }
}

TEST_F(AddressCommandTest, SequencesOfOneFileAreAddressedApart) {
  const std::string stream = ReadAll(kTokenStream);
  const std::string first = stream.substr(0, 4 * 700), second = stream.substr(4000, 4 * 5000);
  const std::vector<std::string> family = {"--family", "deepseek-v4.1-flash", "--token-map",
                                           kV41Map};
  const auto rows = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), family.begin(), family.end());
    EXPECT_EQ(Run(arguments), kDone) << said_;
    return ReadAll(Path("out"));
  };
  const std::string apart =
      rows({"--token-ids", Write("first", first)}) + rows({"--token-ids", Write("second", second)});
  const std::string both = Write("both", first + second);
  EXPECT_NE(rows({"--token-ids", both}), apart);
  const std::string lengths = Write("lengths", "700 0 5000\n");
  for (const char* const chunk : {"1", "64", "4096", "100000"}) {
    EXPECT_TRUE(
        rows({"--token-ids", both, "--sequence-tokens", lengths, "--chunk-tokens", chunk}) == apart)
        << chunk;
  }
}

TEST_F(AddressCommandTest, BadCallsSayWhatToDoAndWriteNothing) {
  WriteTableSet(Path("set"), "deepseek-v4.1-flash");
  WriteTableSet(Path("other"), "deepseek-v4.1-flash");
  std::filesystem::copy_file(kV3Map, Path("other/token_map.i32"),
                             std::filesystem::copy_options::overwrite_existing);
  const std::string ids = Write("ids", Raw<int32_t>({1, 2, 3}));
  const std::string odd = Write("odd", std::string("\1\0\0\0\2", 5));
  const std::string negative = Write("negative", Raw<int32_t>({1, -2, 3}));
  const std::string mask = Write("mask", std::string(2, '\0'));
  const std::string long_mask = Write("long_mask", std::string(4, '\0'));
  const std::string v41 = "deepseek-v4.1-flash", map = kV41Map;
  const std::vector<BadCall> calls = {
      {{"--family", v41, "--token-map", map}, kBadUsage, "--token-ids"},
      {{"--token-ids", ids}, kBadUsage, "--family"},
      {{"--token-ids", ids, "--family", v41, "--table-set", Path("set")}, kBadUsage, "either"},
      {{"--token-ids", ids, "--family", "gpt"}, kBadUsage, "longcat-flash-lite"},
      {{"--token-ids", ids, "--family", v41}, kBadUsage, "--token-map FILE"},
      {{"--token-ids", ids, "--family", "qwen4-exp", "--token-map", map}, kBadUsage, "leave"},
      {{"--token-ids", ids, "--family", "qwen4-exp", "--dead-mask", mask}, kBadUsage, "leave"},
      {{"--token-ids", ids, "--table-set", Path("set"), "--token-map", map}, kBadUsage, "leave"},
      {{"--token-ids", ids, "--table-set", Path("set"), "--rows-per-head", "9"},
       kBadUsage,
       "leave"},
      {{"--token-ids", ids, "--family", "qwen4-exp", "--rows-per-head", "0"},
       kBadUsage,
       "range 1 to"},
      {{"--token-ids", ids, "--family", "qwen4-exp", "--rows-per-head", "-1"}, kBadUsage, ""},
      {{"--token-ids", ids, "--family", "qwen4-exp", "--rows-per-head", "9999999999999"},
       kBadUsage,
       "range 1 to"},
      {{"--token-ids", ids, "--family", "qwen4-exp", "--chunk-tokens", "0"}, kBadUsage, ""},
      {{"--token-ids", ids, "--family", "qwen4-exp", "--chunk-tokens", "-1"},
       kBadUsage,
       "--chunk-tokens"},
      {{"--token-ids", ids, "--family", "qwen4-exp", "--chunk-tokens", "18446744073709551616"},
       kBadUsage,
       "--chunk-tokens"},
      {{"--token-ids", "-", "--dead-mask", "-", "--family", v41, "--token-map", map},
       kBadUsage,
       "standard input"},
      {{"--token-ids", Path("no_ids"), "--family", "qwen4-exp"}, kFailed, "no_ids"},
      {{"--token-ids", odd, "--family", "qwen4-exp"}, kFailed, "odd"},
      {{"--token-ids", negative, "--family", "qwen4-exp"}, kFailed, "token id -2 at position 1"},
      {{"--token-ids", ids, "--family", v41, "--token-map", Path("no_map")}, kFailed, "no_map"},
      {{"--token-ids", ids, "--family", v41, "--token-map", kV3Map}, kFailed, "not the token map"},
      {{"--token-ids", ids, "--family", v41, "--token-map", map, "--dead-mask", mask},
       kFailed,
       "shorter"},
      {{"--token-ids", ids, "--family", v41, "--token-map", map, "--dead-mask", long_mask},
       kFailed,
       "longer"},
      {{"--token-ids", ids, "--table-set", Path("no_set")}, kFailed, "no_set"},
      {{"--token-ids", ids, "--table-set", Path("other")}, kFailed, "not the token map"},
  };
  ExpectRefused(calls);
}

// By a family, which knows its own, and by a set whose side file says which.
TEST_F(AddressCommandTest, AnImagesTokenIsRefusedUnlessItIsDeadOrAllowed) {
  WriteTableSet(Path("set"), "deepseek-v4.1-flash");
  WriteTableSet(Path("plain"), "deepseek-v4.1-flash");
  const std::string id = LoadManifest(Path("set"))->id;
  ASSERT_TRUE(WriteSideFile(Path("set/") + kImageTokenIdsFile, kImageTokenIdsKind, id,
                            ImageTokenIdsBody({129264, 129265}))
                  .ok());
  const std::string family_ids = Write("family_ids", Raw<int32_t>({1, 2, 129264, 3}));
  const std::string set_ids = Write("set_ids", Raw<int32_t>({1, 2, 129265, 3}));
  const std::string mask = Write("mask", std::string("\0\0\1\0", 4));
  const std::vector<std::string> by_family = {"--family", "deepseek-v4.1-flash", "--token-map",
                                              kV41Map,    "--token-ids",         family_ids};
  const std::vector<std::string> by_set = {"--table-set", Path("set"), "--token-ids", set_ids};
  ExpectRefused({{by_family, kFailed, "token id 129264 at position 2 is an image's"},
                 {by_set, kFailed, "token id 129265 at position 2 is an image's"},
                 {by_set, kFailed, "--allow-unmasked-images"}});
  const auto with = [](std::vector<std::string> arguments, const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const std::vector<std::string> plain = {"--table-set", Path("plain"), "--token-ids", set_ids};
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{"--dead-mask", mask}, {"--allow-unmasked-images"}}) {
    EXPECT_EQ(Run(with(by_family, more)), kDone) << said_;
    ASSERT_EQ(Run(with(by_set, more)), kDone) << said_;
    const std::string digest = Digest();
    ASSERT_EQ(Run(with(plain, more)), kDone) << said_;
    EXPECT_EQ(Digest(), digest);
  }
  // A side file that is damaged is not passed over.
  std::ofstream(Path("set/") + kImageTokenIdsFile) << "nonsense";
  std::filesystem::remove(Path("out"));
  ExpectRefused({{by_set, kFailed, kImageTokenIdsFile}});
}

TEST_F(AddressCommandTest, FilesThatAreNoTokenIdsAreRefusedWithTheirCure) {
  const std::string ids = Write("ids", Raw<int32_t>({1, 2, 3}));
  const std::string wide = Write("wide", Raw<int64_t>({1, 2, 3}));
  const std::string text_mask = Write("text_mask", "010");
  const std::string v41 = "deepseek-v4.1-flash", map = kV41Map;
  ExpectRefused({
      {{"--token-ids", "-", "--sequence-tokens", "-", "--family", "qwen4-exp"},
       kBadUsage,
       "standard input"},
      {{"--token-ids", ids, "--token-ids-type", "int16", "--family", "qwen4-exp"},
       kBadUsage,
       "--token-ids-type"},
      {{"--token-ids", wide, "--family", "qwen4-exp"}, kFailed, "--token-ids-type int64"},
      {{"--token-ids", Write("text", "1 2 3\n"), "--family", "qwen4-exp"}, kFailed, "is text"},
      {{"--token-ids", ids, "--sequence-tokens", Write("short", "2"), "--family", "qwen4-exp"},
       kFailed,
       "more token ids than the 2"},
      {{"--token-ids", ids, "--family", v41, "--token-map", map, "--dead-mask", text_mask},
       kFailed,
       "is text"},
  });
}

}  // namespace
}  // namespace engram::cli
