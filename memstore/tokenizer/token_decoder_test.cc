#include "memstore/tokenizer/token_decoder.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr char kHalf[] = "\uFFFD";

struct Case {
  const char* token;
  std::string text;
};

void ExpectTexts(const char* decoder, const std::vector<Case>& cases) {
  const absl::StatusOr<TokenDecoder> made = TokenDecoder::Create(json::parse(decoder));
  ASSERT_TRUE(made.ok()) << made.status();
  uint64_t made_bytes = 0;
  for (const Case& c : cases) {
    const absl::StatusOr<std::string> text = made->Text(c.token, &made_bytes);
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_EQ(*text, c.text) << decoder << ", " << c.token;
  }
}

TEST(TokenDecoderTest, WithoutADecoderTheTokenIsTheText) {
  ExpectTexts("null", {{"ĠThe", "ĠThe"}, {"", ""}});
  ExpectTexts(R"({"type": "Sequence", "decoders": []})", {{"▁a", "▁a"}});
  ExpectTexts(R"({"type": "Fuse"})", {{"▁a", "▁a"}});
}

TEST(TokenDecoderTest, ByteLevelCharactersAreBytes) {
  ExpectTexts(R"({"type": "ByteLevel"})",
              {{"ĠThe", " The"},
               {"ĉĊčĠ", "\t\n\r "},
               {"Ã©", "é"},
               {"ðŁĺĢ", "😀"},
               {"Ł", kHalf},
               {"ðŁĺ", kHalf},      // cut off: one character
               {"Ã©Ã", "é\uFFFD"},  // and behind others
               {"ÃÃ", "\uFFFD\uFFFD"},
               {"Â®", "®"},       // 0xAE is its own character,
               {"ÂŃ", "\u00AD"},  // 0xAD has the last of the others
               {"ń", "ń"},        // the one after it has no byte
               // One character that is none of the bytes', and the token is text.
               {"Ã© é", "Ã© é"},
               {"<｜end｜>", "<｜end｜>"}});
}

TEST(TokenDecoderTest, ByteFallbackTokensAreBytes) {
  ExpectTexts(R"({"type": "ByteFallback"})", {{"<0x41>", "A"},
                                              {"<0x0a>", "\n"},
                                              {"<0x7F>", "\x7F"},
                                              {"<0x80>", kHalf},
                                              {"<0xE9>", kHalf},
                                              {"<0x00>", std::string(1, '\0')},
                                              {"<0x+A>", "\n"},
                                              {"<0x-A>", "<0x-A>"},
                                              {"<0xG0>", "<0xG0>"},
                                              {"<0x 1>", "<0x 1>"},
                                              {"<0x041>", "<0x041>"},
                                              {"<0X41>", "<0X41>"},
                                              {"<0xé>", "<0xé>"},
                                              {"a<0x41>", "a<0x41>"}});
}

TEST(TokenDecoderTest, MetaspaceOfTheFirstTokenGoesUnlessNoneWasPutBeforeIt) {
  const std::vector<Case> dropped = {{"▁The", "The"}, {"▁▁a▁b", "ab"}, {"▁", ""}, {" a", " a"}};
  const std::vector<Case> kept = {{"▁The", " The"}, {"▁▁a▁b", "  a b"}, {"▁", " "}};
  ExpectTexts(R"({"type": "Metaspace", "replacement": "▁"})", dropped);
  ExpectTexts(R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"})", dropped);
  ExpectTexts(R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"})", dropped);
  ExpectTexts(R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"})", kept);
  // As older files say it.
  ExpectTexts(R"({"type": "Metaspace", "replacement": "▁", "add_prefix_space": true})", dropped);
  ExpectTexts(R"({"type": "Metaspace", "replacement": "▁", "add_prefix_space": false})", kept);
  ExpectTexts(R"({"type": "Metaspace", "replacement": "▁", "add_prefix_space": true,
                  "prepend_scheme": "never"})",
              kept);
}

TEST(TokenDecoderTest, StripTakesOfOneCharacterAtTheEnds) {
  ExpectTexts(R"({"type": "Strip", "content": " ", "start": 1, "stop": 0})",
              {{"  a ", " a "}, {"a", "a"}, {" ", ""}, {"", ""}});
  ExpectTexts(R"({"type": "Strip", "content": "é", "start": 0, "stop": 2})",
              {{"éaééé", "éaé"}, {"éé", ""}});
  ExpectTexts(R"({"type": "Strip", "content": "x", "start": 2, "stop": 2})",
              {{"xxx", ""}, {"xxaxx", "a"}, {"axa", "axa"}});
  ExpectTexts(R"({"type": "Strip", "content": "x", "start": 18446744073709551615, "stop": 1})",
              {{"xxxax", "a"}});
}

TEST(TokenDecoderTest, ReplacesFromTheLeft) {
  ExpectTexts(R"({"type": "Replace", "pattern": {"String": "aa"}, "content": "a"})",
              {{"aaaaa", "aaa"}, {"b", "b"}});
  ExpectTexts(R"({"type": "Replace", "pattern": {"String": "."}, "content": ""})",
              {{"a.b", "ab"}, {"ab", "ab"}});
}

TEST(TokenDecoderTest, WordPiecesAndWordEnds) {
  ExpectTexts(R"({"type": "BPEDecoder", "suffix": "</w>"})", {{"the</w>", "the"}, {"th", "th"}});
  ExpectTexts(R"({"type": "WordPiece", "prefix": "##", "cleanup": false})",
              {{"##a", "##a"}, {" .", " ."}});
  ExpectTexts(R"({"type": "WordPiece", "prefix": "##", "cleanup": true})",
              {{"##a", "##a"}, {"a .", "a."}, {" do not", " don't"}, {"a ' b 've", "a'b've"}});
}

TEST(TokenDecoderTest, SequencesGoOneAfterTheOther) {
  ExpectTexts(R"({"type": "Sequence", "decoders": [
                  {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                  {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
                  {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})",
              {{"▁▁a", " a"}, {"<0x20>", ""}, {"▁<0x41>", "<0x41>"}});
}

TEST(TokenDecoderTest, WhatIsNotKnownIsRefusedByName) {
  const struct {
    const char* decoder;
    const char* message;
  } kCases[] = {
      {R"({"type": "CTC", "pad_token": "<pad>"})", "CTC"},
      {R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "New\u001b"}]})",
       "New\\x1b"},
      {R"({"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""})", "regular expression"},
      {R"({"type": "Replace", "pattern": {"String": ""}, "content": ""})", "\"String\""},
      {R"({"type": "Replace", "pattern": "a", "content": ""})", "\"pattern\""},
      {R"({"type": "Replace", "pattern": {"String": "a"}})", "\"content\""},
      {R"({"type": "Sequence", "decoders": {"type": "Fuse"}})", "\"decoders\""},
      {R"({"type": "Strip", "content": "ab", "start": 1, "stop": 0})", "one character"},
      {R"({"type": "Strip", "content": "a", "start": -1, "stop": 0})", "\"start\""},
      {R"({"type": "Metaspace"})", "\"replacement\""},
      {R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "last"})", "prepend_scheme"},
      {R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always",
           "add_prefix_space": false})",
       "add_prefix_space"},
      {R"({"type": "Metaspace", "replacement": "▁", "add_prefix_space": 0})", "add_prefix_space"},
      {R"({"type": "BPEDecoder", "suffix": ""})", "\"suffix\""},
      {R"({"type": "WordPiece", "prefix": "##"})", "\"cleanup\""},
      {R"({"type": 5})", "\"type\""},
      {R"({})", "\"type\""},
      {R"("ByteLevel")", "no object"},
      {R"([])", "no object"},
  };
  for (const auto& c : kCases) {
    const absl::Status status = TokenDecoder::Create(json::parse(c.decoder)).status();
    EXPECT_FALSE(status.ok()) << c.decoder;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message)) << c.decoder;
  }
}

TEST(TokenDecoderTest, WhatMakesTextLongerIsBounded) {
  const json grow = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(256, 'a')}};
  const absl::StatusOr<TokenDecoder> twice =
      TokenDecoder::Create({{"type", "Sequence"}, {"decoders", {grow, grow}}});
  ASSERT_TRUE(twice.ok()) << twice.status();
  uint64_t made_bytes = 0;
  EXPECT_EQ(twice->Text("a", &made_bytes)->size(), 65536u);
  EXPECT_EQ(made_bytes, 1u + 256u + 65536u);
  const json many(64, grow);
  const absl::StatusOr<TokenDecoder> decoder =
      TokenDecoder::Create({{"type", "Sequence"}, {"decoders", many}});
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  EXPECT_EQ(decoder->Text("a", &made_bytes).status().code(), absl::StatusCode::kResourceExhausted);

  const json more(65, grow);
  EXPECT_FALSE(TokenDecoder::Create({{"type", "Sequence"}, {"decoders", more}}).ok());
  json longer = grow;
  longer["content"] = std::string(257, 'a');
  EXPECT_FALSE(TokenDecoder::Create(longer).ok());
}

}  // namespace
}  // namespace engram
