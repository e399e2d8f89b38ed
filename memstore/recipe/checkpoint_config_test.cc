#include "memstore/recipe/checkpoint_config.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/pack/testing/small_checkpoint.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using P = RecipeParameter;

class CheckpointConfigTest : public testing::Test {
 protected:
  CheckpointConfigTest() : dir_(fs::path(testing::TempDir()) / "checkpoint_config_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~CheckpointConfigTest() override { fs::remove_all(dir_); }

  absl::StatusOr<ConfigReport> ReadText(const std::string& text) {
    testing_checkpoint::WriteText(dir_ / "config.json", text);
    stated_ = StatedRecipe();
    return ReadCheckpointConfig(dir_, **FindFamily(family_), reset_token_, stated_);
  }
  absl::StatusOr<ConfigReport> Read(const json& config) { return ReadText(config.dump()); }
  // The value of a parameter after reading, or UINT64_MAX.
  uint64_t Value(const json& config, P parameter) {
    const absl::StatusOr<ConfigReport> report = Read(config);
    EXPECT_TRUE(report.ok()) << report.status();
    const RecipeStatement* said = stated_.Find(parameter);
    return said == nullptr ? UINT64_MAX : said->values[0];
  }
  std::vector<std::string> Notes(const json& config) {
    const absl::StatusOr<ConfigReport> report = Read(config);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? report->notes : std::vector<std::string>();
  }
  void ExpectRefused(const json& config, const std::vector<std::string>& named) {
    const absl::Status status = Read(config).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << config << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(dir_ / "config.json"));
    for (const std::string& name : named) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(name)) << config;
    }
  }

  fs::path dir_;
  std::string family_ = "qwen4-exp";
  std::optional<uint32_t> reset_token_;
  StatedRecipe stated_;
};

TEST_F(CheckpointConfigTest, ReadsEveryKeyOfPle) {
  const json text = {{"ngram_size", 4},
                     {"heads_per_ngram", 2},
                     {"ngram_vocab_size_base", 1000},
                     {"ple_layer_ids", {2, 5}},
                     {"ple_embed_dim", 96},
                     {"make_ngram_vocab_size_divisible_by", 128},
                     {"split_ngram_parts", 64},
                     {"seed", 7},
                     {"vocab_size", 5000},
                     {"eos_token_id", 9}};
  const absl::StatusOr<ConfigReport> report = Read({{"text_config", text}});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->not_compared, "");
  EXPECT_TRUE(report->unread.empty());
  const std::pair<P, uint64_t> read[] = {
      {P::kMaxOrder, 4},        {P::kHeadsPerOrder, 2},  {P::kBaseRows, 1000}, {P::kLayers, 1},
      {P::kPositionValues, 96}, {P::kRowsMultiple, 128}, {P::kPieces, 64},     {P::kSeed, 7},
      {P::kVocabSize, 5000},    {P::kResetToken, 9}};
  for (const auto& [parameter, value] : read) {
    ASSERT_NE(stated_.Find(parameter), nullptr) << int(parameter);
    EXPECT_EQ(stated_.Find(parameter)->values[0], value) << int(parameter);
  }
  EXPECT_THAT(stated_.Find(P::kLayers)->values, ElementsAre(1, 4));
  EXPECT_EQ(stated_.Find(P::kLayers)->text, "[2,5]");
  EXPECT_THAT(stated_.Find(P::kSeed)->source, HasSubstr("config.json: text_config.seed"));
}

TEST_F(CheckpointConfigTest, ReadsEveryKeyOfEngram) {
  const json spellings[] = {{{"engram_layer_ids", {1, 3}},
                             {"engram_max_ngram_size", 3},
                             {"engram_vocab_size", 1000},
                             {"engram_n_heads", 2},
                             {"engram_head_dim", 64},
                             {"engram_pad_token_id", 8},
                             {"engram_seed", 5}},
                            {{"engram_layer_ids", {1, 3}},
                             {"engram_max_ngram_size", 3},
                             {"engram_vocab_size", {1000, 1000}},
                             {"engram_n_head_per_ngram", 2},
                             {"engram_n_embed_per_ngram", 128},
                             {"engram_pad_id", 8},
                             {"seed", 5}},
                            // The demo's dataclass, in an object of its name or not.
                            {{"layer_ids", {1, 3}},
                             {"max_ngram_size", 3},
                             {"engram_vocab_size", {1000, 1000}},
                             {"n_head_per_ngram", 2},
                             {"n_embed_per_ngram", 128},
                             {"pad_id", 8},
                             {"seed", 5}}};
  for (const char* family : {"engram-demo-v1", "engram-27b", "engram-40b", "deepseek-v4.1-flash"}) {
    family_ = family;
    for (const json& spelling : spellings) {
      for (const json& config : {spelling, json{{"engram", spelling}}}) {
        ASSERT_TRUE(Read(config).ok()) << config << Read(config).status();
        const Family read = stated_.Apply(**FindFamily(family_)).value();
        EXPECT_THAT(read.layers, ElementsAre(1, 3)) << config;
        EXPECT_EQ(read.max_order, 3u);
        EXPECT_EQ(read.rows_per_head, 1000u);
        EXPECT_EQ(read.heads_per_order, 2u);
        EXPECT_EQ(read.row_dim, 64u);
        EXPECT_EQ(read.pad_id, 8);
        EXPECT_EQ(read.multiplier_seed, 5u);
      }
    }
  }
  // An object of the family's name needs no key that begins with it.
  EXPECT_EQ(Value({{"engram", {{"max_ngram_size", 3}}}}, P::kMaxOrder), 3u);
  EXPECT_EQ(Value({{"other", {{"max_ngram_size", 3}}}}, P::kMaxOrder), UINT64_MAX);
}

TEST_F(CheckpointConfigTest, ReadsEveryKeyOfOverEmbedding) {
  family_ = "longcat-flash-lite";
  const json lite = {{"emb_neighbor_num", 5},
                     {"emb_split_num", 2},
                     {"ngram_vocab_size_ratio", 78},
                     {"vocab_size", 1000},
                     {"eos_token_id", 3},
                     {"hidden_size", 512},
                     {"oe_ignored_token_ids", json::array()}};
  EXPECT_EQ(Value(lite, P::kMaxOrder), 5u);
  EXPECT_EQ(Value(lite, P::kHeadsPerOrder), 2u);
  EXPECT_EQ(Value(lite, P::kBaseRows), 78000u);
  EXPECT_EQ(Value(lite, P::kVocabSize), 1000u);
  EXPECT_EQ(Value(lite, P::kResetToken), 3u);
  EXPECT_EQ(Value(lite, P::kPositionValues), 512u);
  // A ratio with a fraction is rounded down, also where the vocabulary stands around it.
  const json fraction = {{"vocab_size", 163840},
                         {"text_config", {{"oe_vocab_size_ratio", 100.567}}}};
  EXPECT_EQ(Value(fraction, P::kBaseRows), 16476897u);
  EXPECT_EQ(Value({{"ngram_vocab_size_ratio", 78}}, P::kBaseRows), 10223616u);
  // Rules that the recipe lacks.
  for (const char* key :
       {"oe_ignored_token_ids", "ignored_token_ids", "ngram_exclude_sp_token",
        "ngram_mod_force_prime", "ngram_compressed_tokenizer", "insert_ngram_layer_idx"}) {
    json config = lite;
    config[key] = json::array({3});
    ExpectRefused(config, {key, "[3]", "no such rule"});
    config[key] = false;
    EXPECT_TRUE(Read(config).ok()) << key;
  }
  // Also around the owner, within it, and where nothing else is said of the recipe.
  const json ignored = {3};
  ExpectRefused({{"text_config", lite}, {"ignored_token_ids", ignored}}, {"ignored_token_ids"});
  json within = lite;
  within["text_config"] = {{"ignored_token_ids", ignored}};
  ExpectRefused(within, {"text_config.ignored_token_ids"});
  ExpectRefused({{"ignored_token_ids", ignored}}, {"ignored_token_ids"});
  json multimodal = lite;
  multimodal["text_vocab_size"] = 900;
  ExpectRefused(multimodal, {"vocab_size is 1000", "text_vocab_size is 900"});
  for (const json& ratio : {json(0), json(-1), json("78"), json(1e300), json(true)}) {
    ExpectRefused({{"ngram_vocab_size_ratio", ratio}}, {"ngram_vocab_size_ratio"});
  }
}

TEST_F(CheckpointConfigTest, FindsTheFamilysKeysUnderAnyWrapper) {
  const json keys = {{"ngram_size", 4}};
  for (const json& config :
       {keys, json{{"text_config", keys}}, json{{"language_config", keys}},
        json{{"llm_config", keys}}, json{{"thinker_config", {{"text_config", keys}}}},
        json{{"a", {{"b", {{"c", keys}}}}}},
        json{{"parts", json::array({1, json::object(), keys})}}}) {
    EXPECT_EQ(Value(config, P::kMaxOrder), 4u) << config;
  }
}

TEST_F(CheckpointConfigTest, RefusesTwoObjectsWithKeysOfTheFamilysOwn) {
  ExpectRefused({{"text_config", {{"ngram_size", 4}}}, {"llm_config", {{"ngram_size", 4}}}},
                {"text_config", "llm_config"});
  ExpectRefused({{"ngram_size", 4}, {"a", {{"b", {{"ple_layer_ids", {2}}}}}}},
                {"the top level", "a.b"});
  // Null says nothing, and neither does what holds nothing but an object.
  EXPECT_EQ(Value({{"ngram_size", nullptr}, {"text_config", {{"ngram_size", 4}}}}, P::kMaxOrder),
            4u);
  EXPECT_EQ(Value({{"ple_config", {{"ngram_size", 4}}}}, P::kMaxOrder), 4u);
}

TEST_F(CheckpointConfigTest, ObjectsOfOtherModelsNeverCount) {
  for (const char* name :
       {"vision_config", "visual", "audio_config", "visionConfig", "vit_config", "draft_config",
        "mtp", "mtp_config", "eagle_config", "speculative_config", "talker_config", "image-tower",
        "speech_encoder"}) {
    const json other = {{"ngram_size", 5}, {"seed", 3}, {"text_config", {{"seed", 4}}}};
    EXPECT_EQ(Value({{"ngram_size", 4}, {name, other}}, P::kMaxOrder), 4u) << name;
    EXPECT_EQ(Value({{name, other}}, P::kSeed), UINT64_MAX) << name;
    EXPECT_EQ(Value({{"text_config", {{name, other}}}}, P::kMaxOrder), UINT64_MAX) << name;
  }
}

TEST_F(CheckpointConfigTest, GenericKeysCountInTheObjectAndAroundIt) {
  const json own = {{"ngram_size", 4}};
  EXPECT_EQ(Value({{"seed", 7}, {"a", {{"b", own}}}}, P::kSeed), 7u);
  EXPECT_EQ(Value({{"a", {{"seed", 7}, {"b", own}}}}, P::kSeed), 7u);
  EXPECT_EQ(Value({{"a", own}, {"text_config", {{"seed", 7}}}}, P::kSeed), UINT64_MAX);
  EXPECT_EQ(Value({{"seed", 7}, {"a", {{"ngram_size", 4}, {"seed", 8}}}}, P::kSeed), 8u);
  EXPECT_THAT(Notes({{"seed", 7}, {"a", {{"ngram_size", 4}, {"seed", 8}}}}),
              ElementsAre(AllOf(HasSubstr("config.json: seed is 7"), HasSubstr("a.seed is 8"))));
  // Neither is the object's own.
  ExpectRefused({{"seed", 7}, {"a", {{"seed", 8}, {"b", own}}}}, {"a.seed is 8", "seed is 7"});
  ExpectRefused({{"vocab_size", 7000}, {"a", {{"ngram_size", 4}, {"vocab_size", 8000}}}},
                {"vocab_size is 7000", "a.vocab_size is 8000"});
  ExpectRefused({{"seed", "7"}, {"a", {{"ngram_size", 4}, {"seed", 8}}}}, {"seed", "whole number"});
  EXPECT_EQ(Value({{"seed", 7}, {"a", {{"ngram_size", 4}, {"seed", 7}}}}, P::kSeed), 7u);
}

TEST_F(CheckpointConfigTest, GenericKeysOfTheTextModelWithinCount) {
  const std::tuple<const char*, const char*, const char*, P> cases[] = {
      {"qwen4-exp", "ngram_size", "seed", P::kSeed},
      {"qwen4-exp", "ngram_size", "eos_token_id", P::kResetToken},
      {"qwen4-exp", "ngram_size", "vocab_size", P::kVocabSize},
      {"deepseek-v4.1-flash", "engram_max_ngram_size", "seed", P::kSeed},
      {"longcat-flash-lite", "emb_split_num", "eos_token_id", P::kResetToken}};
  for (const auto& [family, own, key, parameter] : cases) {
    family_ = family;
    const json keys = {{own, 3}};
    for (const json& within : {json{{"text_config", {{key, 7}}}}, json{{"llm_config", {{key, 7}}}},
                               json{{"model", {{"text_config", {{key, 7}}}}}}}) {
      json config = keys;
      config.update(within);
      EXPECT_EQ(Value(config, parameter), 7u) << config;
      EXPECT_THAT(Notes(config), IsEmpty()) << config;
      config[key] = 7;
      EXPECT_EQ(Value(config, parameter), 7u) << config;
      config[key] = 8;
      ExpectRefused(config, {absl::StrCat(key, " is 7"), absl::StrCat(key, " is 8")});
    }
    for (const char* other : {"vision_config", "audio_config", "draft_config", "optimizer"}) {
      json config = keys;
      config[other] = {{key, 7}, {"seed", 9}};
      EXPECT_EQ(Value(config, parameter), UINT64_MAX) << config;
      EXPECT_THAT(Notes(config), IsEmpty()) << config;
    }
  }
}

TEST_F(CheckpointConfigTest, ASeedInAnObjectOfTheFamilysOwnNameIsTheFamilys) {
  family_ = "deepseek-v4.1-flash";
  EXPECT_EQ(Value({{"engram", {{"seed", 6}}}}, P::kSeed), 6u);
  ExpectRefused(
      {{"text_config", {{"engram_layer_ids", {1, 14}}}}, {"engram_config", {{"seed", 6}}}},
      {"text_config", "engram_config"});
}

// The seed of another text model's training, say, is no second opinion.
TEST_F(CheckpointConfigTest, ASeedByTheFamilysOwnNameCountsBeforeAnyOther) {
  family_ = "deepseek-v4.1-flash";
  for (const json& config : {json{{"engram_seed", 5}, {"llm_config", {{"seed", 42}}}},
                             json{{"seed", 42}, {"text_config", {{"engram_seed", 5}}}},
                             json{{"engram_seed", 5}, {"seed", 42}}}) {
    EXPECT_EQ(Value(config, P::kSeed), 5u) << config;
    EXPECT_THAT(Notes(config), ElementsAre(AllOf(HasSubstr("seed is 42, which does not count"),
                                                 HasSubstr("engram_seed is 5"))))
        << config;
  }
}

TEST_F(CheckpointConfigTest, WhatATextModelBesideSaysIsNoted) {
  const json own = {{"ngram_size", 3}};
  const json beside = {{"text_config", own}, {"llm_config", {{"eos_token_id", 7}}}};
  EXPECT_EQ(Value(beside, P::kResetToken), UINT64_MAX);
  EXPECT_THAT(Notes(beside), ElementsAre(AllOf(HasSubstr("llm_config.eos_token_id is 7"),
                                               HasSubstr("text_config"))));
  const json same = {{"text_config", {{"ngram_size", 3}, {"eos_token_id", 7}}},
                     {"llm_config", {{"eos_token_id", {7, 8}}}}};
  EXPECT_EQ(Value(same, P::kResetToken), 7u);
  EXPECT_THAT(Notes(same), IsEmpty());
  EXPECT_THAT(Notes({{"text_config", own}, {"llm_config", {{"seed", "x"}}}}),
              ElementsAre(HasSubstr("llm_config.seed")));
  EXPECT_THAT(Notes({{"text_config", own}, {"draft_llm_config", {{"seed", 7}}}}), IsEmpty());
}

TEST_F(CheckpointConfigTest, KeysOfItsOwnWithTheWrongTypeAreRefusedByName) {
  ExpectRefused({{"ngram_size", {{"a", 1}}}}, {"ngram_size is", "whole number"});
  ExpectRefused({{"text_config", {{"ngram_size", json::object()}}}}, {"text_config.ngram_size"});
  ExpectRefused({{"heads_per_ngram", "8"}}, {"heads_per_ngram", "whole number"});
  ExpectRefused({{"ple_layer_ids", true}}, {"ple_layer_ids is true"});
  family_ = "deepseek-v4.1-flash";
  ExpectRefused({{"engram_layer_ids", {{"a", {5}}}}}, {"engram_layer_ids is", "whole number"});
  ExpectRefused({{"engram_disable_compression", {{"a", 1}}}}, {"engram_disable_compression"});
  family_ = "longcat-flash-lite";
  ExpectRefused({{"emb_split_num", {{"a", 1}}}}, {"emb_split_num is"});
  ExpectRefused({{"oe_vocab_size_ratio", {{"a", 1}}}}, {"oe_vocab_size_ratio"});
}

TEST_F(CheckpointConfigTest, WithoutKeysOfItsOwnGenericOnesCountAtTheTopAndInTheTextModels) {
  for (const char* name : {"text_config", "language_config", "llm_config", "thinker_config",
                           "language_model", "textConfig"}) {
    EXPECT_EQ(Value({{name, {{"seed", 7}}}}, P::kSeed), 7u) << name;
    ExpectRefused({{"seed", 8}, {name, {{"seed", 7}}}}, {"seed is 8", "seed is 7"});
  }
  EXPECT_EQ(Value({{"seed", 7}}, P::kSeed), 7u);
  EXPECT_EQ(Value({{"thinker_config", {{"text_config", {{"vocab_size", 7}}}}}}, P::kVocabSize), 7u);
  EXPECT_EQ(Value({{"quantization_config", {{"seed", 7}}}}, P::kSeed), UINT64_MAX);
  family_ = "deepseek-v4.1-flash";  // of its token map, which it bounds
  EXPECT_EQ(Value({{"vocab_size", 7}, {"eos_token_id", {1, 2}}}, P::kVocabSize), UINT64_MAX);
  EXPECT_EQ(Value({{"vocab_size", 7}}, P::kTextVocabSize), 7u);
  EXPECT_THAT(Read({{"vocab_size", 7}})->not_compared, HasSubstr("holds no key"));
  const json both = {{"vocab_size", 8}, {"text_config", {{"engram_seed", 7}, {"vocab_size", 7}}}};
  EXPECT_EQ(Value(both, P::kTextVocabSize), 7u);
  EXPECT_THAT(Notes(both), ElementsAre(HasSubstr("vocab_size is 8")));
}

TEST_F(CheckpointConfigTest, OfSeveralEndTokensOneIsTold) {
  EXPECT_EQ(Value({{"eos_token_id", {9}}}, P::kResetToken), 9u);
  EXPECT_EQ(Value({{"eos_token_id", {9, 9}}}, P::kResetToken), 9u);  // one token
  ExpectRefused({{"text_config", {{"eos_token_id", {3, 4}}}}},
                {"text_config.eos_token_id is [3,4]", "--reset-token-id"});
  // One that counts before the list tells it.
  const json owner = {{"ngram_size", 3}, {"eos_token_id", 3}};
  EXPECT_EQ(Value({{"eos_token_id", {3, 4}}, {"text_config", owner}}, P::kResetToken), 3u);
  EXPECT_EQ(
      Value({{"eos_token_id", {3, 4}}, {"text_config", {{"eos_token_id", 4}}}}, P::kResetToken),
      4u);
  ExpectRefused({{"eos_token_id", {4, 5}}, {"text_config", owner}},
                {"eos_token_id is [4,5]", "a list with 3", "text_config.eos_token_id"});
  reset_token_ = 4;
  EXPECT_TRUE(Read({{"eos_token_id", {3, 4}}}).ok());
  ExpectRefused({{"eos_token_id", {3, 5}}}, {"[3,5]", "4"});
}

TEST_F(CheckpointConfigTest, SaysWhenNothingWasCompared) {
  fs::remove(dir_ / "config.json");
  StatedRecipe stated;
  const auto report = ReadCheckpointConfig(dir_, **FindFamily(family_), std::nullopt, stated);
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(report->not_compared, HasSubstr("there is no"));
  EXPECT_THAT(Read({{"hidden_size", 5}})->not_compared, HasSubstr("holds no key"));
  EXPECT_THAT(Read({{"ple_unheard_of", 5}})->not_compared, HasSubstr("holds no key"));
  EXPECT_EQ(Read({{"seed", 1234}})->not_compared, "");
  EXPECT_THAT(Read({{"ple_unheard_of", 5}, {"ple_conv_kernel_size", 4}, {"ngram_size", 3}})->unread,
              ElementsAre("ple_unheard_of"));
}

TEST_F(CheckpointConfigTest, RefusesWhatIsNoWholeNumber) {
  EXPECT_EQ(Value({{"ngram_vocab_size_base", 2e7}}, P::kBaseRows), 20000000u);
  for (const json& bad : {json("4"), json(4.5), json(-4), json(true), json({1, 2}), json(1e300),
                          json::array({json::array({4})})}) {
    ExpectRefused({{"ngram_size", bad}}, {"ngram_size", "whole number"});
  }
  ExpectRefused({{"ple_layer_ids", {0}}}, {"[0]", "counted from 1"});
  ExpectRefused({{"ple_layer_ids", json::array()}}, {"at least one"});
  ExpectRefused({{"ple_layer_ids", {5, 2}}}, {"[5,2]", "ascending"});
  ExpectRefused({{"ple_layer_ids", std::vector<int>(100'000, 1)}}, {"shorter list"});
  family_ = "engram-demo-v1";
  ExpectRefused({{"engram_vocab_size", {1000, 2000}}}, {"[1000,2000]", "equal"});
}

// Python writes them.
TEST_F(CheckpointConfigTest, TakesNumbersThatAreNoJsonWhereNothingReadsThem) {
  for (const char* number : {"NaN", "Infinity", "-Infinity", "1e400"}) {
    const auto text = [number](const char* key) {
      return absl::StrCat(R"({"ngram_size": 4, ")", key, "\": ", number, ", \"x\": [", number,
                          "]}");
    };
    EXPECT_TRUE(ReadText(text("dropout")).ok()) << ReadText(text("dropout")).status();
    EXPECT_EQ(stated_.Find(P::kMaxOrder)->values[0], 4u);
    // Of what is read it is no value, and it is not as if nothing were stated.
    const absl::Status status = ReadText(text("seed")).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << number;
    EXPECT_THAT(std::string(status.message()), HasSubstr(number));
  }
}

TEST_F(CheckpointConfigTest, RefusesATextThatIsNoConfiguration) {
  const auto refused = [this](const std::string& text) {
    const absl::Status status = ReadText(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_LT(status.message().size(), 1000u);
    return std::string(status.message());
  };
  EXPECT_THAT(refused("{"), HasSubstr("no JSON object"));
  EXPECT_THAT(refused("[1]"), HasSubstr("no JSON object"));
  EXPECT_THAT(refused(R"({"seed": 1, "seed": 2})"), HasSubstr("seed stands twice"));
  EXPECT_THAT(refused(R"({"a": {}, "b": [{"a": 1, "a": 1}]})"), HasSubstr("a stands twice"));
  EXPECT_TRUE(ReadText(R"({"a": {"x": 1}, "b": {"x": 1}})").ok());
  const std::string deep(1'000'000, '[');
  EXPECT_THAT(refused("{\"ngram_size\":" + deep + std::string(1'000'000, ']') + "}"),
              HasSubstr("nests deeper"));
  std::string wrapped = R"({"ngram_size": 4})";
  for (int level = 0; level < 60; ++level) wrapped = R"({"a": [)" + wrapped + "]}";
  EXPECT_THAT(refused(wrapped), HasSubstr("nests deeper"));
  EXPECT_THAT(refused(json{{"ngram_size", std::string(1'000'000, 'x')}}.dump()),
              HasSubstr("ngram_size"));
}

}  // namespace
}  // namespace engram
