#include "memstore/addressing/scheme.h"

#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/testing/golden.h"

namespace engram {
namespace {

using Edit = std::function<void(AddressScheme*)>;

struct BadScheme {
  std::string family;
  std::string field;  // as the message names it
  Edit edit;
};

TEST(SchemeTest, WhatFamiliesGiveIsValid) {
  for (const Family& family : Families()) {
    EXPECT_TRUE(Validate(DeriveOrDie(family.name)).ok()) << family.name;
  }
}

TEST(SchemeTest, FindLayer) {
  const AddressScheme scheme = DeriveOrDie("deepseek-v4.1-flash");
  EXPECT_EQ(scheme.FindLayer(14), &scheme.layers[1]);
  EXPECT_EQ(scheme.FindLayer(2), nullptr);
  EXPECT_EQ(scheme.Columns(), 24u);
  EXPECT_EQ(scheme.Lookback(), 3u);
  EXPECT_EQ(LayerAddressing().Rows(), 0u);
}

TEST(SchemeTest, EveryFieldIsChecked) {
  const std::string v41 = "deepseek-v4.1-flash", longcat = "longcat-flash-lite";
  const std::vector<BadScheme> cases = {
      {v41, "max_order", [](auto* s) { s->max_order = 1; }},
      {v41, "max_order", [](auto* s) { s->max_order = kMaxOrder + 1; }},
      {v41, "heads_per_order", [](auto* s) { s->heads_per_order = 0; }},
      {v41, "heads_per_order", [](auto* s) { s->heads_per_order = kMaxHeadsPerOrder + 1; }},
      {v41, "vocab_size", [](auto* s) { s->vocab_size = 0; }},
      {v41, "vocab_size", [](auto* s) { s->vocab_size = kMaxVocabSize + 1; }},
      {v41, "each client is sent the map",
       [](auto* s) { s->vocab_size = kMaxMappedVocabSize + 1; }},
      {v41, "token_map.file", [](auto* s) { s->token_map->file.clear(); }},
      {v41, "token_map.sha256", [](auto* s) { s->token_map->sha256.pop_back(); }},
      {v41, "token_map.sha256", [](auto* s) { s->token_map->sha256[0] = 'C'; }},
      {v41, "compressed_vocab_size", [](auto* s) { s->token_map->compressed_vocab_size = 0; }},
      {v41, "compressed_vocab_size",
       [](auto* s) { s->token_map->compressed_vocab_size = s->vocab_size + 1; }},
      {v41, "pad_id", [](auto* s) { s->pad_id = -1; }},
      {v41, "pad_id", [](auto* s) { s->pad_id = 99092; }},
      {v41, "reset_token_id", [](auto* s) { s->reset_token_id = s->vocab_size; }},
      {v41, "radix", [](auto* s) { s->radix = 7; }},
      {longcat, "radix", [](auto* s) { s->radix = 0; }},
      {v41, "number of layers", [](auto* s) { s->layers.clear(); }},
      {v41, "layer's number", [](auto* s) { s->layers[1].layer = 1; }},
      {v41, "layer 14.multipliers' count", [](auto* s) { s->layers[1].multipliers.pop_back(); }},
      {longcat, "layer 0.multipliers' count", [](auto* s) { s->layers[0].multipliers = {1}; }},
      {v41, "layer 1.multipliers", [](auto* s) { s->layers[0].multipliers[2] = 0; }},
      // 99091 * 93079815895035 is the first product of an odd multiplier past 2^63.
      {v41, "layer 1.multipliers", [](auto* s) { s->layers[0].multipliers[2] = 93079815895035; }},
      {v41, "layer 1.moduli's count", [](auto* s) { s->layers[0].moduli.pop_back(); }},
      {v41, "layer 1.offsets' count", [](auto* s) { s->layers[0].offsets.pop_back(); }},
      {v41, "layer 1.offsets[3]", [](auto* s) { s->layers[0].offsets[3] += 1; }},
      {v41, "layer 1.moduli[23]", [](auto* s) { s->layers[0].moduli[23] = 0; }},
      {v41, "layer 1.moduli[23]", [](auto* s) { s->layers[0].moduli[23] = kMaxLayerRows; }},
      {longcat, "layer 0.moduli[11]",
       [](auto* s) {
         s->vocab_size = kMaxVocabSize;
         s->layers[0].moduli[11] = uint64_t{1} << 30;
       }},
  };
  for (const BadScheme& bad : cases) {
    AddressScheme scheme = DeriveOrDie(bad.family);
    bad.edit(&scheme);
    const absl::Status status = Validate(scheme);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.field;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(bad.field));
  }
}

}  // namespace
}  // namespace engram
