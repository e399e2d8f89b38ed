#include "memstore/pack/table_names.h"

#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using Part = TableTensor::Part;

TableNames NamesOf(absl::string_view family) { return TableNames(**FindFamily(family)); }

TEST(TableNamesTest, FindsTheReleasedNames) {
  for (const Family& family : Families()) {
    std::string name(family.weight_tensor);
    for (const auto& [mark, number] : {std::pair("{layer}", "7"), {"{piece}", "3"}}) {
      if (const size_t at = name.find(mark); at != std::string::npos) {
        name.replace(at, std::string(mark).size(), number);
      }
    }
    const auto tensor = TableNames(family).Parse(name);
    ASSERT_TRUE(tensor.has_value()) << name;
    EXPECT_EQ(tensor->part, Part::kWeight) << name;
    EXPECT_EQ(tensor->layer, family.name == "longcat-flash-lite" ? 0 : 7) << name;
  }
}

TEST(TableNamesTest, FindsThemInAnyWrapper) {
  for (const char* prefix :
       {"", "model.", "model.language_model.", "language_model.model.", "x."}) {
    const std::string stem = absl::StrCat(prefix, "layers.14.engram.embed");
    const auto tensor = NamesOf("deepseek-v4.1-flash").Parse(stem + ".weight");
    ASSERT_TRUE(tensor.has_value()) << stem;
    EXPECT_EQ(tensor->stem, stem);
    EXPECT_EQ(tensor->layer, 14u);
  }
}

TEST(TableNamesTest, KnowsWeightsScalesAndPieces) {
  const std::tuple<const char*, Part, const char*, std::optional<uint32_t>> tails[] = {
      {"embed.weight", Part::kWeight, "weight", {}},
      {"embed_tokens.weight", Part::kWeight, "weight", {}},
      {"embed.scale", Part::kScale, "scale", {}},
      {"embed_tokens.weight_scale_inv", Part::kScale, "weight_scale_inv", {}},
      {"embed.weight_scale", Part::kScale, "weight_scale", {}},
      {"embed.shard_12.weight", Part::kWeight, "shard_{piece}.weight", 12},
      {"embed.shard_012.weight", Part::kWeight, "shard_{piece}.weight", 12},
      {"embed.shards.0.weight", Part::kWeight, "shards.{piece}.weight", 0},
      {"embed.shards.5", Part::kWeight, "shards.{piece}", 5},
      {"embed.shard_5", Part::kWeight, "shard_{piece}", 5},
      {"embed.5.weight", Part::kWeight, "{piece}.weight", 5},
      {"embed.shard_5.scale", Part::kScale, "shard_{piece}.scale", 5},
      {"embed.weight_scale_2", Part::kUnknown, "", {}},
      {"embed.weight_zero_point", Part::kUnknown, "", {}},
      {"embed.lora_A.weight", Part::kUnknown, "", {}},
      {"embed.shard_0.delta", Part::kUnknown, "", {}},
  };
  for (const auto& [tail, part, form, piece] : tails) {
    const std::string name = absl::StrCat("layers.1.engram.", tail);
    const auto tensor = NamesOf("deepseek-v4.1-flash").Parse(name);
    ASSERT_TRUE(tensor.has_value()) << tail;
    EXPECT_EQ(tensor->part, part) << tail;
    EXPECT_EQ(tensor->form, form) << tail;
    EXPECT_EQ(tensor->piece, piece) << tail;
  }
}

TEST(TableNamesTest, KnowsNoOtherTensorUnderTheTable) {
  const std::map<std::string, std::vector<std::string>> tails = {
      {"model.language_model.layers.1.ple.ple_embedding.ngram_embedding.",
       {"lora_A.weight", "lora_embedding_A", "base_layer.weight", "bias", "weight_offset", "g_idx",
        "absmax", "weight.absmax", "codebook", "delta", "shard_0.bias", "shard_0.delta",
        "shards.0.weight.absmax"}},
      {"layers.1.engram.embed.",
       {"bias", "lora_A.weight", "weight.absmax", "", "5", "shard_x.weight", "shard_.weight",
        "shard_99999999999.weight"}},
      {"model.ngram_embeddings.", {"embedders.3.bias", "embedders.bias", "weight", "weight_scale"}},
  };
  for (const auto& [stem, names] : tails) {
    for (const std::string& tail : names) {
      const bool is_v41 = stem[0] == 'l', is_qwen = absl::StrContains(stem, "ple");
      const auto tensor = NamesOf(is_v41    ? "deepseek-v4.1-flash"
                                  : is_qwen ? "qwen4-exp"
                                            : "longcat-flash-lite")
                              .Parse(stem + tail);
      ASSERT_TRUE(tensor.has_value()) << stem << tail;
      EXPECT_EQ(tensor->part, Part::kUnknown) << stem << tail;
    }
  }
}

TEST(TableNamesTest, LeavesWhatLiesBesideTheTableAlone) {
  for (const char* name :
       {"model.language_model.layers.1.ple.ple_embedding.layer_multipliers",
        "model.language_model.layers.1.ple.ple_embedding.ngram_embedding.ngram_heads_offsets",
        "model.language_model.layers.1.ple.norm.bias"}) {
    EXPECT_FALSE(NamesOf("qwen4-exp").Parse(name).has_value()) << name;
  }
  for (const char* name :
       {"model.ngram_embeddings.post_projs.3.weight", "model.ngram_embeddings.word.weight",
        "model.embed_tokens.weight", "model.ngram_embeddings.ngram_heads_offsets", "weight",
        "my_ngram_embeddings.weight"}) {
    EXPECT_FALSE(NamesOf("longcat-flash-lite").Parse(name).has_value()) << name;
  }
}

TEST(TableNamesTest, LeavesOtherTensorsAlone) {
  for (const char* name :
       {"layers.1.engram.wkv.weight", "layers.1.engram.wkv.scale", "layers.1.engram.q_weight",
        "layers.1.engram.k_weight", "layers.1.engram.embed", "layers.x.engram.embed.weight",
        "layers.01.engram.embed.weight", "layers..engram.embed.weight",
        "layers.1.engram.embedding.weight", "mylayers.1.engram.embed.weight",
        "layers.99999999999.engram.embed.weight", "embed_tokens.weight",
        "mtp.layers.1.engram.embed.weight", "draft_model.layers.1.engram.embed.scale", ""}) {
    EXPECT_FALSE(NamesOf("deepseek-v4.1-flash").Parse(name).has_value()) << name;
  }
}

TEST(TableNamesTest, SaysWhatItLooksFor) {
  const std::string text = NamesOf("deepseek-v4.1-flash").LookedFor(14);
  for (const char* name : {"layers.14.engram.embed.weight", "layers.14.engram.embed_tokens.weight",
                           "layers.14.engram.embed.shard_{i}.weight"}) {
    EXPECT_THAT(text, testing::HasSubstr(name));
  }
  EXPECT_EQ(PieceName("a.b", "shard_{piece}.weight", 7), "a.b.shard_7.weight");
}

}  // namespace
}  // namespace engram
