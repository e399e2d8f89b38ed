#include "memstore/pack/table_names.h"

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

TEST(TableNamesTest, LeavesOtherTensorsAlone) {
  for (const char* name :
       {"layers.1.engram.wkv.weight", "layers.1.engram.wkv.scale", "layers.1.engram.embed",
        "layers.1.engram.embed.", "layers.1.engram.embed.bias", "layers.1.engram.embed.5",
        "layers.x.engram.embed.weight", "layers.01.engram.embed.weight",
        "layers..engram.embed.weight", "layers.1.engram.embedding.weight",
        "mylayers.1.engram.embed.weight", "layers.1.engram.embed.shard_x.weight",
        "layers.1.engram.embed.shard_.weight", "layers.1.engram.embed.shard_99999999999.weight",
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
