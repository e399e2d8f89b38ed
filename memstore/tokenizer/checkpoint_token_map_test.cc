#include "memstore/tokenizer/checkpoint_token_map.h"

#include <cstring>
#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"
#include "memstore/os/posix_file.h"
#include "memstore/tokenizer/testing/small_tokenizer.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

constexpr char kV3Map[] = "tests/golden/deepseek_v3_token_map.i32";
constexpr char kV41Map[] = "tests/golden/deepseek_v41_token_map.i32";

MadeTokenMap MapOf(std::vector<int32_t> compressed) {
  MadeTokenMap map{.compressed = std::move(compressed), .compressed_vocab_size = 0, .sha256 = ""};
  for (const int32_t id : map.compressed) {
    map.compressed_vocab_size = std::max(map.compressed_vocab_size, uint32_t(id) + 1);
  }
  map.sha256 = Sha256Hex(map.bytes());
  return map;
}

MadeTokenMap KnownMap(const char* file) {
  const std::string bytes = ReadWholeFile(file, 1 << 20).value();
  std::vector<int32_t> compressed(bytes.size() / sizeof(int32_t));
  std::memcpy(compressed.data(), bytes.data(), bytes.size());
  return MapOf(std::move(compressed));
}

class CheckVocabularyTest : public testing::Test {
 protected:
  static absl::Status Check(const MadeTokenMap& map, const char* family) {
    return CheckVocabulary(map, **FindFamily(family), "DIR/tokenizer.json");
  }
  static void ExpectRefused(const MadeTokenMap& map, const char* family, const char* why) {
    const absl::Status status = Check(map, family);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << why;
    for (const char* part : {why, "DIR/tokenizer.json", family, "--token-map FILE"}) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(part));
    }
  }
};

TEST_F(CheckVocabularyTest, TheKnownMapAndAnotherVocabularysAreTaken) {
  EXPECT_TRUE(Check(KnownMap(kV3Map), "engram-demo-v1").ok());
  EXPECT_TRUE(Check(KnownMap(kV3Map), "engram-27b").ok());
  EXPECT_TRUE(Check(KnownMap(kV41Map), "deepseek-v4.1-flash").ok());
  for (const char* family : {"engram-demo-v1", "deepseek-v4.1-flash"}) {
    EXPECT_TRUE(Check(MapOf({0, 1, 1, 2}), family).ok());
    EXPECT_TRUE(Check(MapOf(std::vector<int32_t>(200000)), family).ok());
  }
}

TEST_F(CheckVocabularyTest, WhatIsCloseToAKnownMapIsRefused) {
  ExpectRefused(KnownMap(kV3Map), "deepseek-v4.1-flash", "it is that of engram-demo-v1");
  ExpectRefused(KnownMap(kV41Map), "engram-27b", "it is that of deepseek-v4.1-flash");

  std::vector<int32_t> more = KnownMap(kV41Map).compressed;
  more.push_back(99092);
  ExpectRefused(MapOf(more), "deepseek-v4.1-flash", "1 ids were added");
  more.resize(128816);
  ExpectRefused(MapOf(more), "engram-demo-v1", "1 ids were added");
  ExpectRefused(MapOf(more), "deepseek-v4.1-flash", "1 ids were added");

  std::vector<int32_t> other = KnownMap(kV3Map).compressed;
  other[700] = 0;
  ExpectRefused(MapOf(other), "engram-demo-v1", "it has as many ids and other entries");
}

TEST(MakeCheckpointTokenMapTest, SaysHowElseToGetAMap) {
  const std::string directory = testing::TempDir() + "/checkpoint_token_map_test";
  std::filesystem::remove_all(directory);
  std::filesystem::create_directory(directory);
  const Family& family = **FindFamily("engram-demo-v1");
  const absl::Status none = MakeCheckpointTokenMap(family, directory).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kFailedPrecondition);
  const std::string path = TokenizerPath(directory);
  const std::string source(family.token_map_source);
  for (const std::string& part : {path, std::string("--token-map FILE"), source}) {
    EXPECT_THAT(std::string(none.message()), HasSubstr(part));
  }
  std::ofstream(path) << R"({"decoder": {"type": "CTC"}, "model": {"vocab": {"a": 0}}})";
  const absl::Status unknown = MakeCheckpointTokenMap(family, directory).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kUnimplemented);
  for (const char* part : {"CTC", "--token-map FILE"}) {
    EXPECT_THAT(std::string(unknown.message()), HasSubstr(part));
  }
  std::ofstream(path) << testing_tokenizer::UnigramTokenizer().Text();
  const absl::StatusOr<MadeTokenMap> map = MakeCheckpointTokenMap(family, directory);
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->compressed, testing_tokenizer::UnigramTokenizer().map);
}

}  // namespace
}  // namespace engram
