#include "memstore/recipe/stated_recipe.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using P = RecipeParameter;

const Family& Qwen() { return **FindFamily("qwen4-exp"); }
const Family& V41() { return **FindFamily("deepseek-v4.1-flash"); }

StatedRecipe Stated(const std::map<P, std::vector<uint64_t>>& values) {
  StatedRecipe stated;
  for (const auto& [parameter, numbers] : values) {
    EXPECT_TRUE(stated.State(parameter, {numbers, "config.json: some_key", "TEXT"}).ok());
  }
  return stated;
}

void ExpectRefused(const absl::Status& status, const std::vector<std::string>& named) {
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  for (const std::string& name : named) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
}

TEST(StatedRecipeTest, WhatIsStatedTakesThePlaceOfTheFamilys) {
  const Family family = Stated({{P::kSeed, {7}},
                                {P::kBaseRows, {1000}},
                                {P::kMaxOrder, {4}},
                                {P::kHeadsPerOrder, {2}},
                                {P::kVocabSize, {5000}},
                                {P::kResetToken, {9}},
                                {P::kLayers, {0, 3}},
                                {P::kPositionValues, {384}}})
                            .Apply(Qwen())
                            .value();
  EXPECT_EQ(family.multiplier_seed, 7u);
  EXPECT_EQ(family.rows_per_head, 1000u);
  EXPECT_EQ(family.max_order, 4u);
  EXPECT_EQ(family.heads_per_order, 2u);
  EXPECT_EQ(family.vocab_size, 5000u);
  EXPECT_EQ(family.reset_token_id, 9);
  EXPECT_EQ(family.pad_id, 9);  // Qwen4 pads with the token that resets
  EXPECT_THAT(family.layers, ElementsAre(0, 3));
  EXPECT_EQ(family.row_dim, 64u);
}

TEST(StatedRecipeTest, NothingStatedIsTheFamily) {
  const Family family = StatedRecipe().Apply(V41()).value();
  EXPECT_EQ(family.rows_per_head, V41().rows_per_head);
  EXPECT_EQ(family.token_map_sha256, V41().token_map_sha256);
  EXPECT_EQ(family.row_dim, V41().row_dim);
  EXPECT_THAT(StatedRecipe().Differences(V41()), IsEmpty());
}

TEST(StatedRecipeTest, PadAndCompressedVocabularyAreTheModels) {
  const Family longcat =
      Stated({{P::kResetToken, {9}}}).Apply(**FindFamily("longcat-flash-lite")).value();
  EXPECT_EQ(longcat.reset_token_id, 9);
  EXPECT_EQ(longcat.pad_id, 0);
  const Family same =
      Stated({{P::kCompressedVocabSize, {99092}}, {P::kPadToken, {5}}}).Apply(V41()).value();
  EXPECT_EQ(same.token_map_sha256, V41().token_map_sha256);
  EXPECT_EQ(same.pad_id, 5);
  const Family other = Stated({{P::kCompressedVocabSize, {100}}}).Apply(V41()).value();
  EXPECT_EQ(other.compressed_vocab_size, 100u);
  EXPECT_EQ(other.token_map_sha256, "");
}

TEST(StatedRecipeTest, TwoSourcesThatDisagreeAreRefusedByBothNames) {
  StatedRecipe stated;
  ASSERT_TRUE(stated.State(P::kBaseRows, {{1000}, "--rows-per-head", "1000"}).ok());
  ASSERT_TRUE(stated.State(P::kBaseRows, {{1000}, "a.json: base", "1000.0"}).ok());
  ExpectRefused(stated.State(P::kBaseRows, {{2000}, "b.json: base", "2000"}),
                {"--rows-per-head is 1000", "b.json: base is 2000", "base size", "leave"});
  EXPECT_EQ(stated.Find(P::kBaseRows)->values[0], 1000u);
  ASSERT_TRUE(stated.State(P::kSeed, {{1}, "a.json: seed", "1"}).ok());
  ExpectRefused(stated.State(P::kSeed, {{2}, "a.json: x.seed", "2"}),
                {"a.json: seed is 1", "a.json: x.seed is 2", "seed of the hash"});
}

TEST(StatedRecipeTest, RefusesValuesThatCannotBe) {
  const std::pair<P, std::vector<uint64_t>> bad[] = {
      {P::kSeed, {UINT64_MAX}},
      {P::kBaseRows, {0}},
      {P::kBaseRows, {kMaxLayerRows + 1}},
      {P::kMaxOrder, {1}},
      {P::kMaxOrder, {uint64_t{1} << 32 | 3}},  // 3 in 32 bits
      {P::kHeadsPerOrder, {0}},
      {P::kVocabSize, {0}},
      {P::kVocabSize, {uint64_t{1} << 32}},
      {P::kPadToken, {uint64_t{1} << 31}},
      {P::kResetToken, {UINT64_MAX}},
      {P::kLayers, {}},
      {P::kLayers, {14, 1}},
      {P::kLayers, {1, 1}},
      {P::kLayers, {uint64_t{1} << 32}},
      {P::kRowValues, {0}},
      {P::kLayerRows, {0}},
  };
  for (const auto& [parameter, values] : bad) {
    StatedRecipe stated;
    ExpectRefused(stated.State(parameter, {values, "config.json: k", "V"}),
                  {"config.json: k is V", "must be"});
  }
}

TEST(StatedRecipeTest, RowWidthsAgreeOrAreRefused) {
  EXPECT_EQ(Stated({{P::kRowValues, {64}}, {P::kOrderValues, {512}}}).Apply(V41())->row_dim, 64u);
  ExpectRefused(Stated({{P::kRowValues, {64}}, {P::kOrderValues, {256}}}).Apply(V41()).status(),
                {"64 values", "32 values"});
  ExpectRefused(Stated({{P::kPositionValues, {100}}}).Apply(V41()).status(), {"24 rows"});
}

TEST(StatedRecipeTest, TellsWhatIsOtherwiseThanTheFamilys) {
  StatedRecipe stated = Stated({{P::kSeed, {7}}, {P::kMaxOrder, {3}}});
  ASSERT_TRUE(stated.State(P::kBaseRows, {{1000}, "--rows-per-head", "1000"}).ok());
  const std::vector<std::string> differences = stated.Differences(Qwen());
  ASSERT_EQ(differences.size(), 1u);  // the order is the family's, the base a flag's
  EXPECT_THAT(differences[0], HasSubstr("some_key is TEXT"));
  EXPECT_THAT(differences[0], HasSubstr("1234"));
}

TEST(StatedRecipeTest, RowsOfLayersAreCompared) {
  const AddressScheme scheme = Derive(Qwen(), {.rows_per_head = 1000}).value();
  EXPECT_TRUE(StatedRecipe().CheckLayerRows(scheme).ok());
  EXPECT_TRUE(Stated({{P::kLayerRows, {16826}}}).CheckLayerRows(scheme).ok());
  ExpectRefused(Stated({{P::kLayerRows, {16827}}}).CheckLayerRows(scheme),
                {"some_key is TEXT", "16826", "--rows-per-head"});
  ExpectRefused(Stated({{P::kLayerRows, {16826, 16826}}}).CheckLayerRows(scheme), {"16826"});
}

// 1,000 rows padded to 1,024 are 4 pieces of 256; 250 each would be another padding.
TEST(StatedRecipeTest, PiecesAreAsLongAsTheStatedPaddingMakesThem) {
  const StatedRecipe stated = Stated({{P::kRowsMultiple, {128}}, {P::kPieces, {4}}});
  const std::vector<uint64_t> right = {256, 256, 256, 256}, other = {320, 320, 320, 320};
  EXPECT_TRUE(stated.CheckPieces(1000, right).ok());
  ExpectRefused(stated.CheckPieces(1000, other), {"4 tensors of 320", "expected 256"});
  // Saved in other pieces, or with nothing stated.
  EXPECT_TRUE(stated.CheckPieces(1000, std::vector<uint64_t>{1000}).ok());
  EXPECT_TRUE(Stated({{P::kPieces, {4}}}).CheckPieces(1000, other).ok());
}

TEST(StatedRecipeTest, ATokenMapMayBeShorterThanAPaddedVocabulary) {
  StatedRecipe stated;
  EXPECT_TRUE(stated.CheckTokenMapLength(1).ok());
  ASSERT_TRUE(
      stated.State(RecipeParameter::kTextVocabSize, {{129280}, "vocab_size", "129280"}).ok());
  for (const uint64_t ids : {137360, 129281, 129280, 128815, 121200}) {
    EXPECT_TRUE(stated.CheckTokenMapLength(ids).ok()) << ids;
    EXPECT_EQ(stated.NoteOnTokenMap(ids).empty(), ids <= 129280) << ids;
  }
  for (const uint64_t ids : {1000000, 137361, 121199, 20, 0}) {
    const absl::Status status = stated.CheckTokenMapLength(ids);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()),
                testing::AllOf(testing::HasSubstr(absl::StrCat("has ", ids, " ids")),
                               testing::HasSubstr("vocab_size is 129280")));
  }
}

}  // namespace
}  // namespace engram
