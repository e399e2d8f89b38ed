#include "memstore/recipe/gguf_keys.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/gguf/testing/small_gguf.h"
#include "memstore/recipe/image_token_ids.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;
using namespace testing_gguf;  // NOLINT: the writer's names are what these tests are made of

class GgufKeysTest : public testing::Test {
 protected:
  GgufKeysTest() : path_(fs::path(testing::TempDir()) / "gguf_keys_test.gguf") {}
  ~GgufKeysTest() override { fs::remove(path_); }

  absl::StatusOr<GgufKeysReport> Read(absl::string_view family, const std::vector<Key>& keys) {
    Write(path_, File{.keys = keys, .tensors = {}});
    const GgufModel model = GgufModel::Open(path_, IsGgufRecipeKey).value();
    stated_ = StatedRecipe();
    return ReadGgufKeys(model, **FindFamily(family), stated_);
  }
  std::vector<uint64_t> Stated(RecipeParameter parameter) const {
    const RecipeStatement* const said = stated_.Find(parameter);
    return said == nullptr ? std::vector<uint64_t>() : said->values;
  }
  void ExpectRefused(absl::string_view family, const std::vector<Key>& keys,
                     const std::vector<std::string>& parts) {
    const absl::Status status = Read(family, keys).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    for (const std::string& part : parts) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(part));
    }
  }

  fs::path path_;
  StatedRecipe stated_;
};

constexpr char kV41[] = "deepseek-v4.1-flash";

TEST_F(GgufKeysTest, ReadsWhatConvertersOfV41Write) {
  const GgufKeysReport report =
      Read(kV41,
           {Text("general.architecture", "deepseek41"),
            Int32s("deepseek41.engram.layer_ids", {1, 14}),
            Uint32("deepseek41.engram.head_count", 8), Uint32("deepseek41.engram.key_length", 256),
            Uint32("deepseek41.engram.max_ngram_size", 4),
            Uint64s("deepseek41.engram.multipliers", {3, 5}),
            Uint64s("deepseek41.engram.primes", {7, 11}),
            Uint64s("deepseek41.engram.offsets", {0, 7}),
            Int32s("deepseek41.engram.token_map", {0, 1, 1}), Uint32("deepseek41.engram.pad_id", 2),
            Text("deepseek41.engram.encoding", "e4m3_e8m0_32_row264"),
            Text("deepseek41.engram.storage", "inline"), Uint32("deepseek41.vocab_size", 129280),
            Uint32("deepseek41.block_count", 43)})
          .value();
  EXPECT_THAT(Stated(RecipeParameter::kLayers), ElementsAre(1, 14));
  EXPECT_THAT(Stated(RecipeParameter::kHeadsPerOrder), ElementsAre(8));
  EXPECT_THAT(Stated(RecipeParameter::kRowValues), ElementsAre(256));
  EXPECT_THAT(Stated(RecipeParameter::kMaxOrder), ElementsAre(4));
  EXPECT_THAT(Stated(RecipeParameter::kTextVocabSize), ElementsAre(129280));
  EXPECT_THAT(report.multipliers->values, ElementsAre(3, 5));
  EXPECT_THAT(report.moduli->values, ElementsAre(7, 11));
  EXPECT_THAT(report.offsets->values, ElementsAre(0, 7));
  EXPECT_THAT(report.token_map->values, ElementsAre(0, 1, 1));
  EXPECT_THAT(report.pad->values, ElementsAre(2));
  EXPECT_THAT(report.pad->source, HasSubstr("gguf_keys_test.gguf: deepseek41.engram.pad_id"));
  EXPECT_EQ(report.encoding, "e4m3_e8m0_32_row264");
  EXPECT_THAT(report.unread, UnorderedElementsAre("deepseek41.engram.storage"));
  EXPECT_EQ(report.keys, 9u);
}

TEST_F(GgufKeysTest, ReadsOtherSpellings) {
  Read(kV41,
       {Uint32("deepseek4.engram.n_heads", 8), Uint32("deepseek4.engram.head_dim", 256),
        Uint32s("deepseek4.engram.num_embeddings", {30, 40}),
        Uint32("deepseek4.engram.vocab_size", 1000), Uint32("deepseek4.engram_pad_token_id", 2),
        Uint32s("deepseek4.engram.layers", {1, 14})})
      .value();
  EXPECT_THAT(Stated(RecipeParameter::kHeadsPerOrder), ElementsAre(8));
  EXPECT_THAT(Stated(RecipeParameter::kLayerRows), ElementsAre(30, 40));
  EXPECT_THAT(Stated(RecipeParameter::kBaseRows), ElementsAre(1000));
  EXPECT_THAT(Stated(RecipeParameter::kPadToken), ElementsAre(2));
  EXPECT_THAT(Stated(RecipeParameter::kLayers), ElementsAre(1, 14));
  const std::string flags("\0\1\0\1", 4);
  Read(kV41, {{"x.engram.layers", 9, std::string("\7\0\0\0\4\0\0\0\0\0\0\0", 12) + flags}}).value();
  EXPECT_THAT(Stated(RecipeParameter::kLayers), ElementsAre(1, 3));
}

TEST_F(GgufKeysTest, ReadsWhatConvertersOfQwenAndLongCatWrite) {
  const GgufKeysReport report =
      Read("qwen4-exp",
           {Uint32s("qwen4exp.ple.layers", {1}), Uint32("qwen4exp.ple.ngram_size", 3),
            Uint32("qwen4exp.ple.heads_per_ngram", 8), Uint32("qwen4exp.ple.conv_kernel", 4),
            Uint32("qwen4exp.ple.eos_token_id", 248044),
            Uint32("qwen4exp.embedding_length_per_layer_input", 160),
            Uint64s("qwen4exp.ple.layer_multipliers", {3, 5, 7}),
            Uint64s("qwen4exp.ple.head_vocab_sizes", {11}),
            Uint64s("qwen4exp.ple.head_offsets", {0}),
            Uint32("tokenizer.ggml.eos_token_id", 248046)})
          .value();
  EXPECT_THAT(Stated(RecipeParameter::kLayers), ElementsAre(1));  // counts from 0 here
  EXPECT_THAT(Stated(RecipeParameter::kResetToken), ElementsAre(248044));
  EXPECT_THAT(Stated(RecipeParameter::kRowValues), ElementsAre(160));
  EXPECT_THAT(report.multipliers->values, ElementsAre(3, 5, 7));
  EXPECT_TRUE(report.unread.empty());
  Read("longcat-flash-lite",
       {Uint32("longcat.vocab_size", 131072), Uint32("longcat.ngram.neighbor_num", 4),
        Uint32("longcat.ngram.split_num", 4), Float32("longcat.ngram.vocab_size_ratio", 78)})
      .value();
  EXPECT_THAT(Stated(RecipeParameter::kBaseRows), ElementsAre(78u * 131072));
  EXPECT_THAT(Stated(RecipeParameter::kVocabSize), ElementsAre(131072));
  // Special tokens that are not hashed are counted as well, or not.
  Read("longcat-flash-lite",
       {Uint32("longcat.vocab_size", 131125), Uint32("longcat.ngram.base_vocab_size", 131072)})
      .value();
  EXPECT_THAT(Stated(RecipeParameter::kVocabSize), ElementsAre(131072));
  Read("longcat-flash-lite", {Uint32("longcat.vocab_size", 131072)}).value();
}

// They say nothing of the addresses.
TEST_F(GgufKeysTest, CollectsTheTokenIdsOfImages) {
  const GgufKeysReport report =
      Read(kV41, {Uint32("deepseek41.engram_image_token_id", 9), Int32("a.video_token_id", -200),
                  Uint32s("deepseek41.engram.image_token_ids", {130000, 9}),
                  Uint32("deepseek41.image_start_token_id", 4),
                  Uint32("tokenizer.ggml.image_token_id", 5)})
          .value();
  EXPECT_THAT(report.image_token_ids, ElementsAre(9, 130000));
  EXPECT_EQ(report.keys, 0u);
  EXPECT_TRUE(report.unread.empty());
  EXPECT_THAT(Read("qwen4-exp", {Uint32("qwen4exp.ple.image_token_id", 7)}).value().image_token_ids,
              ElementsAre(7));
  std::vector<uint32_t> many(kMaxConfigImageTokens + 1);
  for (uint32_t i = 0; i < many.size(); ++i) many[i] = i;
  ExpectRefused(kV41, {Uint32s("a.image_token_ids", many)},
                {"a.image_token_ids", "more than 64 token ids of images"});
  ExpectRefused(kV41, {Uint64("b.image_token_id", uint64_t{1} << 31)}, {"b.image_token_id"});
  ExpectRefused(kV41, {Text("c.image_token_id", "3")}, {"c.image_token_id is \"3\""});
}

TEST_F(GgufKeysTest, NothingIsSaidOfAnotherFamily) {
  const GgufKeysReport report =
      Read(kV41, {Uint32("qwen4exp.ple.ngram_size", 3), Uint32("llama.block_count", 3)}).value();
  EXPECT_EQ(report.keys, 0u);
  EXPECT_EQ(stated_.size(), 0u);
}

TEST_F(GgufKeysTest, WhatCannotBeIsRefusedByKeyAndValue) {
  ExpectRefused(kV41, {Uint32("a.engram.head_count", 8), Uint32("b.engram.head_count", 4)},
                {"a.engram.head_count is 8", "b.engram.head_count is 4"});
  ExpectRefused(kV41, {Int32("a.engram.head_count", -8)}, {"a.engram.head_count is -8"});
  ExpectRefused(kV41, {Text("a.engram.head_count", "8")}, {"is \"8\", expected whole numbers"});
  ExpectRefused(kV41, {Uint32s("a.engram.head_count", {8, 8})}, {"expected one number"});
  ExpectRefused(kV41, {Uint32s("a.engram.vocab_size", {8, 9})}, {"equal numbers"});
  ExpectRefused(kV41, {Uint64s("a.engram.multipliers", {uint64_t{1} << 63})}, {"beyond 2^63 - 1"});
  ExpectRefused(kV41, {Uint64s("a.engram.primes", {7}), Uint64s("a.engram.hash_primes", {9})},
                {"a.engram.primes", "a.engram.hash_primes", "[7]", "[9]"});
  ExpectRefused(kV41, {Uint32("a.engram.encoding", 3)}, {"a text"});
  ExpectRefused(kV41, {Uint32s("a.engram.layer_ids", {14, 1})}, {"ascending"});
  ExpectRefused("longcat-flash-lite", {Float32("a.ngram.vocab_size_ratio", -1)}, {"positive"});
  ExpectRefused("longcat-flash-lite", {Uint32s("a.oe_ignored_token_ids", {3})}, {"no such rule"});
  ExpectRefused("longcat-flash-lite", {Uint32("a.ngram.ignored_token_id_count", 53)},
                {"ignored_token_id_count is 53", "no such rule"});
  ExpectRefused("longcat-flash-lite", {Uint32("a.vocab_size", 131125)},
                {"a.vocab_size is 131125, expected 131072"});
}

TEST_F(GgufKeysTest, TwoNamesOfTheRowsMustBeTheSame) {
  ExpectRefused(kV41, {Text("a.engram.encoding", "int4"), Text("b.engram.encoding", "fp8")},
                {"a.engram.encoding is \"int4\"", "b.engram.encoding is \"fp8\""});
  const absl::StatusOr<GgufKeysReport> report =
      Read(kV41, {Text("a.engram.encoding", "int4"), Text("b.engram.encoding", "int4")});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->encoding, "int4");
}

// A text of a file can be anything, of a megabyte.
TEST_F(GgufKeysTest, TextsAreQuotedInMessages) {
  const std::string text = "8\x1b[2J" + std::string(1 << 16, 'x');
  ExpectRefused(kV41, {Text("a.engram.head_count", text)}, {"is \"8\\x1b[2Jxxx"});
  const absl::Status status = Read(kV41, {Text("a.engram.head_count", text)}).status();
  EXPECT_LT(status.message().size(), 4096u);
}

TEST_F(GgufKeysTest, ARuleThatTheRecipeLacksIsOffInEveryType) {
  const std::string key = "a.ngram_exclude_sp_token";
  for (const Key& off :
       {Uint32(key, 0), Float32(key, 0), Text(key, ""), Int32s(key, {}), Int32s(key, {0, 0})}) {
    const absl::Status status = Read("longcat-flash-lite", {off}).status();
    EXPECT_TRUE(status.ok()) << status;
  }
  ExpectRefused("longcat-flash-lite", {Float32(key, 0.5f)}, {"is 0.5", "no such rule"});
  ExpectRefused("longcat-flash-lite", {Text(key, "all")}, {"is \"all\"", "no such rule"});
  ExpectRefused("longcat-flash-lite", {Texts(key, {"all"})}, {"a list of texts", "no such rule"});
}

}  // namespace
}  // namespace engram
