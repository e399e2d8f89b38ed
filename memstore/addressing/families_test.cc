#include "memstore/addressing/families.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/primes.h"
#include "memstore/addressing/testing/golden.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

// The constants of one family in the known answers.
void ExpectConstants(const AddressScheme& scheme, const nlohmann::json& golden) {
  EXPECT_EQ(scheme.max_order, golden["N"]);
  EXPECT_EQ(scheme.heads_per_order, golden["heads"]);
  EXPECT_EQ(scheme.pad_id, golden["pad"]);
  ASSERT_TRUE(scheme.token_map);
  EXPECT_EQ(scheme.token_map->compressed_vocab_size, golden["compressed_vocab"]);
  ASSERT_EQ(scheme.layers.size(), golden["layers"].size());
  for (size_t l = 0; l < scheme.layers.size(); ++l) {
    EXPECT_EQ(scheme.layers[l].layer, golden["layers"][l]);
    EXPECT_EQ(nlohmann::json(scheme.layers[l].multipliers), golden["multipliers"][l]);
    EXPECT_EQ(nlohmann::json(scheme.layers[l].moduli), golden["primes"][l]);
    EXPECT_EQ(nlohmann::json(scheme.layers[l].offsets), golden["offsets"][l]);
    EXPECT_EQ(scheme.layers[l].Rows(), golden["rows"][l]);
  }
}

TEST(DeriveTest, DeepSeekV41Flash) {
  ExpectConstants(DeriveOrDie("deepseek-v4.1-flash"),
                  KnownAnswers()["deepseek_v41_flash"]["constants"]);
}

TEST(DeriveTest, EngramDemoV1) {
  ExpectConstants(DeriveOrDie("engram-demo-v1"), KnownAnswers()["engram_demo_v1"]["constants"]);
}

TEST(DeriveTest, Qwen4Exp) {
  const AddressScheme scheme = DeriveOrDie("qwen4-exp");
  ASSERT_EQ(scheme.layers.size(), 1u);
  EXPECT_THAT(scheme.layers[0].multipliers,
              testing::ElementsAre(23703573157769, 20109073645365, 8052911324071));
  EXPECT_EQ(scheme.layers[0].Rows(), 320001446u);
  EXPECT_EQ(scheme.Columns(), 16u);
}

// By transformers' Qwen4ExpTextNGramEmbedding: head g of the i-th PLE layer takes the (16 i + g +
// 1)-th prime from the base on, its multipliers' seed is seed + 10007 i.
TEST(DeriveTest, ASecondLayerOfQwen4ExpTakesThePrimesThatFollow) {
  Family family = FamilyNamed("qwen4-exp");
  family.layers = {1, 5};
  const AddressScheme scheme = Derive(family, {.rows_per_head = 1000}).value();
  ASSERT_EQ(scheme.layers.size(), 2u);
  EXPECT_EQ(scheme.layers[0].moduli.front(), 1009u);
  EXPECT_EQ(scheme.layers[0].moduli.back(), 1097u);
  EXPECT_EQ(scheme.layers[1].layer, 5u);
  EXPECT_EQ(scheme.layers[1].moduli.front(), 1103u);
  EXPECT_EQ(scheme.layers[1].moduli.back(), 1223u);
  EXPECT_THAT(scheme.layers[1].multipliers,
              testing::ElementsAre(3352040966061, 19752442147475, 10742103100073));
}

TEST(DeriveTest, ASisterModelIsAFamilyWithOtherParameters) {
  Family family = FamilyNamed("qwen4-exp");
  family.multiplier_seed = 7;
  family.vocab_size = 200000;
  family.pad_id = family.reset_token_id = 5;
  family.max_order = 4;
  family.heads_per_order = 2;
  family.layers = {0, 3};
  family.rows_per_head = 1000;
  const AddressScheme scheme = Derive(family, {}).value();
  EXPECT_EQ(scheme.Columns(), 6u);
  EXPECT_EQ(scheme.vocab_size, 200000u);
  EXPECT_EQ(scheme.pad_id, 5);
  EXPECT_EQ(scheme.reset_token_id, 5u);
  EXPECT_THAT(scheme.layers[1].moduli, testing::ElementsAre(1039, 1049, 1051, 1061, 1063, 1069));
  EXPECT_THAT(scheme.layers[1].multipliers,
              testing::ElementsAre(26036192551563, 24215265230495, 27706011192507, 31557894992565));
}

TEST(DeriveTest, LongCatFlashLite) {
  const AddressScheme scheme = DeriveOrDie("longcat-flash-lite");
  ASSERT_EQ(scheme.layers.size(), 1u);
  ASSERT_EQ(scheme.Columns(), 12u);
  for (uint32_t i = 0; i < 12; ++i) {
    EXPECT_EQ(scheme.layers[0].moduli[i], 78 * 131072 + 2 * i + 1);
  }
  EXPECT_EQ(scheme.layers[0].Rows(), 122683536u);
}

// What a family says of images has a use: its positions can be dead, and the id is a token's.
TEST(FamiliesTest, ImageTokensAreOfFamiliesWithDeadPositions) {
  for (const Family& family : Families()) {
    EXPECT_EQ(family.image_token_ids.empty(), !family.dead_positions) << family.name;
    for (const int32_t id : family.image_token_ids) {
      EXPECT_LT(static_cast<uint32_t>(id), family.vocab_size) << family.name;
    }
  }
}

// Known from the paper alone: 2,262,400 or 7,239,680 a head, the demo's hash.
TEST(DeriveTest, Engram40b) {
  const AddressScheme scheme = DeriveOrDie("engram-40b");
  ASSERT_EQ(scheme.layers.size(), 2u);
  EXPECT_EQ(scheme.layers[1].layer, 14u);
  EXPECT_NEAR(scheme.layers[0].Rows(), 16 * 7239680.0, 16 * 400);
}

TEST(DeriveTest, Engram27b) {
  const AddressScheme scheme = DeriveOrDie("engram-27b");
  ASSERT_EQ(scheme.layers.size(), 2u);
  EXPECT_EQ(scheme.layers[1].layer, 14u);
  EXPECT_EQ(scheme.Columns(), 16u);
  EXPECT_NEAR(scheme.layers[0].Rows(), 16 * 2262400.0, 16 * 400);
  EXPECT_EQ(scheme.token_map->compressed_vocab_size, 98627u);
}

TEST(DeriveTest, EveryFamilyAndSizeIsValid) {
  for (const Family& family : Families()) {
    for (const uint64_t rows_per_head : {0, 1, 2, 100, 8192, 40009, 1 << 30}) {
      DeriveOptions options;
      options.rows_per_head = rows_per_head;
      const absl::StatusOr<AddressScheme> scheme = Derive(family, options);
      ASSERT_TRUE(scheme.ok()) << family.name << ", " << rows_per_head << ": " << scheme.status();
      const uint64_t base = rows_per_head == 0 ? family.rows_per_head : rows_per_head;
      for (const LayerAddressing& layer : scheme->layers) {
        for (const uint64_t modulus : layer.moduli) EXPECT_GE(modulus, base);
      }
    }
  }
}

TEST(DeriveTest, PrimesAreDistinctOverAllLayers) {
  DeriveOptions options;
  options.rows_per_head = 1000;
  std::set<uint64_t> seen;
  for (const LayerAddressing& layer : DeriveOrDie("deepseek-v4.1-flash", options).layers) {
    for (const uint64_t modulus : layer.moduli) {
      EXPECT_TRUE(IsPrime(modulus)) << modulus;
      EXPECT_TRUE(seen.insert(modulus).second) << modulus;
    }
  }
}

TEST(DeriveTest, LongCatScalesByRowsPerHead) {
  DeriveOptions options;
  options.rows_per_head = 500;
  const AddressScheme scheme = DeriveOrDie("longcat-flash-lite", options);
  for (uint32_t i = 0; i < 12; ++i) EXPECT_EQ(scheme.layers[0].moduli[i], 500 + 2 * i + 1);
}

TEST(DeriveTest, ASubsetOfLayersKeepsWhatItHasInTheFamily) {
  const AddressScheme full = DeriveOrDie("deepseek-v4.1-flash");
  const AddressScheme last = DeriveOrDie("deepseek-v4.1-flash", {.layers = {14}});
  ASSERT_EQ(last.layers.size(), 1u);
  EXPECT_EQ(last.layers[0].layer, 14u);
  EXPECT_EQ(last.layers[0].moduli, full.layers[1].moduli);
  EXPECT_EQ(last.layers[0].multipliers, full.layers[1].multipliers);
}

TEST(DeriveTest, OtherLayersAreWalkedAlone) {
  const AddressScheme full = DeriveOrDie("deepseek-v4.1-flash");
  const AddressScheme other = DeriveOrDie("deepseek-v4.1-flash", {.layers = {2, 14}});
  ASSERT_EQ(other.layers.size(), 2u);
  EXPECT_EQ(other.layers[0].layer, 2u);
  EXPECT_EQ(other.layers[0].moduli, full.layers[0].moduli);
  EXPECT_NE(other.layers[0].multipliers, full.layers[0].multipliers);
  EXPECT_EQ(other.layers[1].multipliers, full.layers[1].multipliers);
}

TEST(DeriveTest, RefusesWhatCannotBe) {
  const auto error = [](absl::string_view family, const DeriveOptions& options) {
    const absl::Status status = Derive(FamilyNamed(family), options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(error("deepseek-v4.1-flash", {.layers = {14, 1}}), HasSubstr("layers 14,1"));
  EXPECT_THAT(error("deepseek-v4.1-flash", {.layers = {1, 1}}), HasSubstr("layers 1,1"));
  EXPECT_THAT(error("longcat-flash-lite", {.layers = {3}}), HasSubstr("no layer 3"));
  EXPECT_THAT(error("deepseek-v4.1-flash", {.rows_per_head = uint64_t{1} << 41}),
              HasSubstr("rows per head"));
  // Each head fits, the layer does not.
  EXPECT_THAT(error("deepseek-v4.1-flash", {.rows_per_head = uint64_t{1} << 38}),
              HasSubstr("moduli"));
}

TEST(DeriveTest, RefusesParametersThatCannotBe) {
  const auto error = [](void (*change)(Family&)) {
    Family family = FamilyNamed("qwen4-exp");
    change(family);
    const absl::Status status = Derive(family, {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(error([](Family& f) { f.max_order = 1; }), HasSubstr("up to 1 ids"));
  EXPECT_THAT(error([](Family& f) { f.max_order = 4000000000; }), HasSubstr("up to 4000000000"));
  EXPECT_THAT(error([](Family& f) { f.heads_per_order = 0; }), HasSubstr("0 heads"));
  EXPECT_THAT(error([](Family& f) { f.heads_per_order = 65; }), HasSubstr("65 heads"));
  EXPECT_THAT(error([](Family& f) { f.vocab_size = 0; }), HasSubstr("vocabulary of 0"));
  EXPECT_THAT(error([](Family& f) { f.vocab_size = 200000; }), HasSubstr("pad_id is 248044"));
  EXPECT_THAT(error([](Family& f) { f.rows_per_head = 0; }), HasSubstr("rows per head 0"));
  EXPECT_THAT(error([](Family& f) { f.layers = {5, 1}; }), HasSubstr("layers 5,1"));
  EXPECT_THAT(error([](Family& f) { f.layers = {}; }), HasSubstr("number of layers is 0"));
}

TEST(FamiliesTest, AnUnknownNameListsThose) {
  const absl::Status status = FindFamily("engram-3b").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  for (const Family& family : Families()) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(family.name)));
  }
}

}  // namespace
}  // namespace engram
