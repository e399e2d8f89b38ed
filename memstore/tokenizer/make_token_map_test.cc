#include "memstore/tokenizer/make_token_map.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"
#include "memstore/tokenizer/testing/small_tokenizer.h"

namespace engram {
namespace {

using ::testing::HasSubstr;
using testing_tokenizer::SmallTokenizer;

void ExpectItsMap(const SmallTokenizer& tokenizer) {
  const absl::StatusOr<MadeTokenMap> map = MakeTokenMap(tokenizer.Text());
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->compressed, tokenizer.map);
  EXPECT_EQ(map->compressed_vocab_size, tokenizer.compressed_vocab_size);
  EXPECT_EQ(map->bytes().size(), 4 * tokenizer.map.size());
  EXPECT_EQ(map->sha256, Sha256Hex(map->bytes()));
}

TEST(MakeTokenMapTest, OfEachKindOfTokenizer) {
  ExpectItsMap(testing_tokenizer::ByteLevelTokenizer());
  ExpectItsMap(testing_tokenizer::ByteFallbackTokenizer());
  ExpectItsMap(testing_tokenizer::UnigramTokenizer());
}

TEST(MakeTokenMapTest, TheDecoderDecides) {
  SmallTokenizer tokenizer = testing_tokenizer::UnigramTokenizer();
  tokenizer.json["decoder"]["prepend_scheme"] = "never";
  // "▁" and "▁▁" are a space now, an id without a token is still nothing.
  tokenizer.map = {0, 1, 2, 2, 1, 3, 4, 2, 5, 6};
  tokenizer.compressed_vocab_size = 7;
  ExpectItsMap(tokenizer);
}

// Texts and raw strings are keys of one kind.
TEST(MakeTokenMapTest, ARawStringMeetsATextThatIsTheSame) {
  const absl::StatusOr<MadeTokenMap> map = MakeTokenMap(R"({"decoder": {"type": "ByteFallback"},
      "model": {"vocab": {"<0xe9>": 0, "<0x3C>0xe9>": 1, "a\ufffd": 2, "A\ufffd": 3}}})");
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->compressed, (std::vector<int32_t>{0, 1, 2, 3}));
}

TEST(MakeTokenMapTest, WhatNothingIsLeftOfIsItself) {
  const absl::StatusOr<MadeTokenMap> map = MakeTokenMap(
      R"({"model": {"vocab": {"\u0301": 0, "\u0302": 1, "\u2028": 2, "\u0301\u0301": 3}}})");
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->compressed, (std::vector<int32_t>{0, 1, 2, 3}));
}

TEST(MakeTokenMapTest, AFarIdCostsItsMapAndNoMore) {
  const absl::StatusOr<MadeTokenMap> map =
      MakeTokenMap(R"({"model": {"vocab": {"a": 0, "b": 10485759}}})");
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ(map->compressed.size(), 10485760u);
  EXPECT_EQ(map->compressed_vocab_size, 3u);
  EXPECT_EQ(map->compressed.back(), 2);
}

TEST(MakeTokenMapTest, DecodersThatMakeTooMuchAreStopped) {
  std::string vocabulary;
  const std::string word(64, 'a');
  for (int i = 0; i < 40000; ++i) {
    absl::StrAppend(&vocabulary, i == 0 ? "" : ",", "\"", word, i, "\":", i);
  }
  const std::string grow =
      absl::StrCat(R"({"type": "Replace", "pattern": {"String": "a"}, "content": ")",
                   std::string(256, 'b'), R"("})");
  const absl::Status status =
      MakeTokenMap(
          absl::StrCat(R"({"decoder": )", grow, R"(, "model": {"vocab": {)", vocabulary, "}}}"))
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
}

TEST(MakeTokenMapTest, ComparesAFileOfACacheWithItsName) {
  namespace fs = std::filesystem;
  const fs::path dir = fs::path(::testing::TempDir()) / "make_token_map_test";
  fs::remove_all(dir);
  fs::create_directories(dir / "blobs");
  const std::string text = testing_tokenizer::ByteLevelTokenizer().Text();
  fs::create_symlink(dir / "blobs" / Sha256Hex(text), dir / "tokenizer.json");
  std::ofstream(dir / "tokenizer.json") << text;
  EXPECT_TRUE(MakeTokenMapOf(dir / "tokenizer.json").ok());
  std::ofstream(dir / "tokenizer.json") << text << "\n";
  EXPECT_EQ(MakeTokenMapOf(dir / "tokenizer.json").status().code(), absl::StatusCode::kDataLoss);
  fs::remove_all(dir);
}

TEST(MakeTokenMapTest, MessagesNameTheFile) {
  const std::string path = ::testing::TempDir() + "/tokenizer.json";
  std::ofstream(path) << testing_tokenizer::ByteLevelTokenizer().Text();
  EXPECT_TRUE(MakeTokenMapOf(path).ok());
  std::ofstream(path) << R"({"decoder": {"type": "CTC"}, "model": {"vocab": {"a": 0}}})";
  const absl::Status unknown = MakeTokenMapOf(path).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(unknown.message()), HasSubstr(path));
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("CTC"));
  EXPECT_EQ(MakeTokenMapOf(path + ".none").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace engram
