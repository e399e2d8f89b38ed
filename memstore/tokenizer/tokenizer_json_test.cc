#include "memstore/tokenizer/tokenizer_json.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

std::map<uint32_t, std::string> TokensOf(const TokenizerFile& file) {
  std::map<uint32_t, std::string> tokens;
  for (const Token& token : file.tokens) tokens[token.id] = token.raw;
  EXPECT_EQ(tokens.size(), file.tokens.size());
  return tokens;
}

std::string WithVocabulary(const std::string& vocabulary, const std::string& added = "[]") {
  return absl::StrCat(R"({"added_tokens": )", added, R"(, "model": {"type": "BPE", "vocab": )",
                      vocabulary, "}}");
}

std::string Added(int64_t id, const std::string& content) {
  return absl::StrCat("[{\"id\": ", id, ", \"content\": \"", content, "\"}]");
}

TEST(TokenizerJsonTest, ReadsVocabularyAddedTokensAndDecoder) {
  const absl::StatusOr<TokenizerFile> file = ParseTokenizerJson(R"({
      "version": "1.0", "truncation": {"vocab": {"no": 7}}, "type": ["no"],
      "added_tokens": [{"id": 0, "special": true, "content": "<s>", "lstrip": [[1]]},
                       {"id": 6, "content": "\u00e9", "id2": {"id": 3}}],
      "post_processor": {"decoder": 1, "added_tokens": [{"id": 9}]},
      "decoder": {"type": "Sequence", "decoders": [{"type": "Fuse", "a": [1, "b", null, [2.5]]}]},
      "model": {"dropout": null, "vocab": {"b": 2, "<s>": 0, "a": 1},
                "merges": ["a b", ["a", "c"]], "other": {"vocab": {"x": 8}}, "type": "BPE"}})");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(TokensOf(*file),
            (std::map<uint32_t, std::string>{{0, "<s>"}, {1, "a"}, {2, "b"}, {6, "é"}}));
  EXPECT_EQ(file->Ids(), 7u);
  EXPECT_EQ(file->decoder, nlohmann::json::parse(R"({"type": "Sequence", "decoders": [
                               {"type": "Fuse", "a": [1, "b", null, [2.5]]}]})"));
}

TEST(TokenizerJsonTest, ReadsPiecesInTheirOrder) {
  const absl::StatusOr<TokenizerFile> file = ParseTokenizerJson(R"({"decoder": null, "model": {
      "vocab": [["<unk>", 0], ["b", -1.5], ["a", -2], ["b", -3.25]]}, "added_tokens": [
      {"content": "b", "id": 3}, {"content": "<x>", "id": 4}]})");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(TokensOf(*file), (std::map<uint32_t, std::string>{
                                 {0, "<unk>"}, {1, "b"}, {2, "a"}, {3, "b"}, {4, "<x>"}}));
  EXPECT_TRUE(file->decoder.is_null());
}

TEST(TokenizerJsonTest, FilesWithoutAddedTokensOrWithNullAreRead) {
  EXPECT_TRUE(ParseTokenizerJson(R"({"model": {"vocab": {"a": 0}}})").ok());
  EXPECT_TRUE(ParseTokenizerJson(WithVocabulary(R"({"a": 0})", "null")).ok());
  // The same added token twice is one.
  EXPECT_TRUE(ParseTokenizerJson(WithVocabulary(R"({"a": 0})", R"([{"id": 1, "content": "b"},
      {"id": 1, "content": "b"}])"))
                  .ok());
}

void ExpectRefused(const std::string& text, const std::string& message) {
  const absl::Status status = ParseTokenizerJson(text).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text.substr(0, 200);
  EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << text.substr(0, 200);
  EXPECT_LT(status.message().size(), 1000u);
}

TEST(TokenizerJsonTest, IdsThatAreNoneAreRefusedByName) {
  const uint64_t limit = kMaxTokenIds;
  EXPECT_TRUE(ParseTokenizerJson(WithVocabulary(absl::StrCat("{\"a\": ", limit - 1, "}"))).ok());
  for (const std::string& id :
       {absl::StrCat(limit), std::string("-1"), std::string("1.5"), std::string("4294967296"),
        std::string("18446744073709551616"), std::string("1e400"), std::string("null"),
        std::string("\"0\""), std::string("true"), std::string("[0]"), std::string("{}")}) {
    const absl::Status status =
        ParseTokenizerJson(WithVocabulary(absl::StrCat("{\"a\": ", id, "}"))).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << id;
    const absl::Status added =
        ParseTokenizerJson(
            WithVocabulary("{\"a\": 0}", absl::StrCat("[{\"content\": \"x\", \"id\": ", id, "}]")))
            .status();
    EXPECT_EQ(added.code(), absl::StatusCode::kInvalidArgument) << id;
  }
  ExpectRefused(WithVocabulary(R"({"a\u001b": -7})"), "a\\x1b the id -7, must be 0..10485759");
  ExpectRefused(WithVocabulary(R"({"a": 0})", Added(-7, "x")), "\"added_tokens\" gives");
}

TEST(TokenizerJsonTest, MoreTokensThanAMapIsMadeOfAreRefused) {
  std::string vocabulary = "[";
  for (uint64_t i = 0; i < kMaxTokens; ++i) vocabulary += "[\"\",0],";
  vocabulary += "[\"\",0]]";
  ExpectRefused(WithVocabulary(vocabulary), "more than 2097152 tokens");
}

TEST(TokenizerJsonTest, WhatCanBeReadInTwoWaysIsRefused) {
  ExpectRefused(WithVocabulary(R"({"a": 0, "b": 0})"), "the id 0 has two tokens: a and b");
  ExpectRefused(WithVocabulary(R"({"a": 0, "a": 1})"), "the token a has two ids: 0 and 1");
  ExpectRefused(WithVocabulary(R"({"a": 0, "a": 0})"), "the token a has two ids");
  ExpectRefused(WithVocabulary(R"({"a": 0})", Added(0, "x")), "the id 0 has two tokens: a and x");
  ExpectRefused(WithVocabulary(R"({"a": 0})", Added(1, "a")), "the token a has two ids: 0 and 1");
  ExpectRefused(
      WithVocabulary(R"({"a": 0})", R"([{"id": 1, "content": "x"}, {"id": 1, "content": "y"}])"),
      "the id 1 has two tokens: x and y");
  ExpectRefused(
      WithVocabulary(R"({"a": 0})", R"([{"id": 1, "content": "x"}, {"id": 2, "content": "x"}])"),
      "the token x has two ids: 1 and 2");
  ExpectRefused(WithVocabulary(R"({"a": 0})", R"([{"id": 1, "content": "x", "id": 2}])"), "twice");
  ExpectRefused(R"({"model": {"vocab": {"a": 0}}, "model": {"vocab": {"b": 0}}})", "twice");
  ExpectRefused(R"({"model": {"vocab": {"a": 0}, "vocab": {"b": 1}}})", "twice");
  ExpectRefused(R"({"decoder": null, "model": {"vocab": {"a": 0}}, "decoder": {}})", "twice");
  ExpectRefused(R"({"decoder": {"type": "Fuse", "type": "Strip"}, "model": {"vocab": {"a": 0}}})",
                "twice");
  ExpectRefused(R"({"added_tokens": [], "model": {"vocab": {"a": 0}}, "added_tokens": []})",
                "twice");
}

TEST(TokenizerJsonTest, OtherFilesAreRefusedWithWhatTheyLack) {
  ExpectRefused("", "no JSON");
  ExpectRefused("{\"model\"", "no JSON at byte");
  ExpectRefused("{\"model\": {\"vocab\": {\"a\": 0}}} {}", "no JSON at byte");
  ExpectRefused("{\"model\": {\"vocab\": {\"a\xFF\": 0}}}", "not UTF-8 at byte");
  ExpectRefused("{\"model\": {\"vocab\": {\"\\ud800\": 0}}}", "no JSON at byte");
  ExpectRefused("[]", "no JSON object");
  ExpectRefused("7", "no JSON object");
  ExpectRefused("{}", "tokenizer.json");
  ExpectRefused(R"({"model": {"type": "BPE"}})", "tokenizer.json");
  ExpectRefused(R"({"model": 5})", "tokenizer.json");
  ExpectRefused(R"({"model": [{"vocab": {"a": 0}}]})", "tokenizer.json");
  ExpectRefused(R"({"model": {"vocab": null}})", "vocabulary holds null");
  ExpectRefused(R"({"model": {"vocab": {}}})", "empty");
  ExpectRefused(R"({"model": {"vocab": []}})", "empty");
  ExpectRefused(R"({"model": {"type": "Tiktoken", "vocab": {"a": 0}}})", "Tiktoken");
  ExpectRefused(R"({"model": {"type": ["BPE"], "vocab": {"a": 0}}})", "type");
  for (const char* entry : {R"(["a"])", R"(["a", "b"])", R"([1, 2])", R"(["a", 1, 2])", "[]",
                            R"("a")", R"({"a": 0})", R"(["a", [1]])", R"([["a", 1]])"}) {
    EXPECT_FALSE(ParseTokenizerJson(absl::StrCat(R"({"model": {"vocab": [)", entry, "]}}")).ok())
        << entry;
  }
  for (const char* added : {"{}", "5", "[5]", R"(["a"])", "[[]]", R"([{"id": 1}])",
                            R"([{"content": "a"}])", R"([{"id": 1, "content": 2}])", "[{}]",
                            R"([{"id": [1], "content": "b"}])", R"({"id": 1, "content": "b"})"}) {
    EXPECT_FALSE(ParseTokenizerJson(WithVocabulary("{\"a\": 0}", added)).ok()) << added;
  }
}

TEST(TokenizerJsonTest, ContainersInAVocabularyAreRefusedByName) {
  ExpectRefused(WithVocabulary(R"({"a": [], "b": 0})"), "the token a a list in place of an id");
  ExpectRefused(WithVocabulary(R"({"a": {}, "b": 1})"), "the token a an object in place");
  ExpectRefused(WithVocabulary(R"({"b": 1, "a": {"c": 0}})"), "the token a an object in place");
  ExpectRefused(WithVocabulary(R"([["b", 0.0], ["a", 0.0, {}]])"), "entry 1 of its vocabulary");
  ExpectRefused(WithVocabulary(R"([["a", 0.0, []]])"), "entry 0 of its vocabulary holds a list");
  ExpectRefused(WithVocabulary(R"([["a", [], 0.0]])"), "entry 0 of its vocabulary holds a list");
  ExpectRefused(WithVocabulary(R"([["a", 0.0], {"x": "b", "y": 1.0}])"),
                "entry 1 of its vocabulary is an object");
  ExpectRefused(WithVocabulary(R"([["a", 0.0], {}])"), "entry 1 of its vocabulary is an object");
}

TEST(TokenizerJsonTest, NestingAndLengthAreBounded) {
  const std::string deep(100000, '[');
  ExpectRefused("{\"x\": " + deep, "nests deeper");
  ExpectRefused("{\"decoder\": " + deep, "nests deeper");
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  ExpectRefused("{\"decoder\": " + objects, "nests deeper");
  ExpectRefused(WithVocabulary("{\"" + std::string(kMaxTokenBytes + 1, 'a') + "\": 0}"),
                "bytes, the limit is 65536");
  EXPECT_TRUE(
      ParseTokenizerJson(WithVocabulary("{\"" + std::string(kMaxTokenBytes, 'a') + "\": 0}")).ok());
}

}  // namespace
}  // namespace engram
