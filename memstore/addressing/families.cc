#include "memstore/addressing/families.h"

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace engram {
namespace {

constexpr char kV3MapSha256[] = "cd48cb62d9cca1baaf08d9e7795ad3d4c22b6c56f0f070178b9e3a52694ea930";
constexpr char kV41MapSha256[] = "c60a86322ec17b4142bfef3c57a8d81fb428550cdf487f88a4320cb59fe46481";

constexpr absl::string_view kV3MapSource =
    "it comes with this program (/usr/share/engram/deepseek_v3_token_map.i32 of its packages, "
    "tests/golden/deepseek_v3_token_map.i32 of its source), and `engram token-map` makes it from "
    "DeepSeek-V3's tokenizer.json";
constexpr absl::string_view kV41MapSource =
    "it comes with this program (/usr/share/engram/deepseek_v41_token_map.i32 of its packages, "
    "tests/golden/deepseek_v41_token_map.i32 of its source), and `engram token-map` makes it from "
    "DeepSeek-V4.1's tokenizer.json";

constexpr uint32_t kV3Vocab = 128815;
constexpr uint32_t kV3CompressedVocab = 98627;
constexpr uint32_t kQwenEos = 248044;
constexpr uint32_t kLongCatVocab = 131072;

Family EngramDemoV1() {
  return {
      .name = "engram-demo-v1",
      .config_keys = ConfigKeys::kEngram,
      .combine = Combine::kXorOfProducts,
      .multiplier_rule = MultiplierRule::kNumpyPcg64,
      .multiplier_seed = 0,
      .modulus_rule = ModulusRule::kPrimesAbove,
      .max_order = 3,
      .heads_per_order = 8,
      .vocab_size = kV3Vocab,
      .compressed_vocab_size = kV3CompressedVocab,
      .token_map_sha256 = kV3MapSha256,
      .token_map_source = kV3MapSource,
      .pad_id = 2,
      .reset_token_id = -1,
      .pad_is_reset_token = false,
      .dead_positions = false,
      .rows_per_head = 646400,
      .layers = {1, 15},
      .row_dim = 64,
      .weight_tensor = "layers.{layer}.engram.multi_head_embedding.embedding.weight",
      .scale_tensor = "",
      .scale_per_row = false,
      .column_tensors = false,
  };
}

// Known from the paper alone: the demo's hash, other sizes and layers.
Family Engram27b() {
  Family family = EngramDemoV1();
  family.name = "engram-27b";
  family.rows_per_head = 2262400;
  family.layers = {1, 14};
  family.row_dim = 80;
  return family;
}

Family Engram40b() {
  Family family = Engram27b();
  family.name = "engram-40b";
  family.rows_per_head = 7239680;
  return family;
}

Family DeepSeekV41Flash() {
  return {
      .name = "deepseek-v4.1-flash",
      .config_keys = ConfigKeys::kEngram,
      .combine = Combine::kXorOfProducts,
      .multiplier_rule = MultiplierRule::kNumpyPcg64,
      .multiplier_seed = 0,
      .modulus_rule = ModulusRule::kPrimesAbove,
      .max_order = 4,
      .heads_per_order = 8,
      .vocab_size = 129280,
      .compressed_vocab_size = 99092,
      .token_map_sha256 = kV41MapSha256,
      .token_map_source = kV41MapSource,
      .pad_id = 2,
      .reset_token_id = -1,
      .pad_is_reset_token = false,
      .dead_positions = true,
      .image_token_ids = {129264},
      .rows_per_head = 16000000,
      .layers = {1, 14},
      .row_dim = 256,
      .weight_tensor = "layers.{layer}.engram.embed.weight",
      .scale_tensor = "layers.{layer}.engram.embed.scale",
      .scale_per_row = true,
      .column_tensors = false,
  };
}

Family Qwen4Exp() {
  return {
      .name = "qwen4-exp",
      .config_keys = ConfigKeys::kPle,
      .combine = Combine::kXorOfProducts,
      .multiplier_rule = MultiplierRule::kSplitMix64,
      .multiplier_seed = 1234,
      .modulus_rule = ModulusRule::kPrimesAbove,
      .max_order = 3,
      .heads_per_order = 8,
      .vocab_size = 248320,
      .compressed_vocab_size = 0,
      .token_map_sha256 = "",
      .token_map_source = "",
      .pad_id = kQwenEos,
      .reset_token_id = kQwenEos,
      .pad_is_reset_token = true,
      .dead_positions = false,
      .rows_per_head = 20000000,
      .layers = {1},
      .row_dim = 160,
      .weight_tensor =
          "model.language_model.layers.{layer}.ple.ple_embedding.ngram_embedding.shard_{piece}."
          "weight",
      .scale_tensor =
          "model.language_model.layers.{layer}.ple.ple_embedding.ngram_embedding.weight_scale",
      .scale_per_row = false,
      .column_tensors = false,
  };
}

Family LongCatFlashLite() {
  return {
      .name = "longcat-flash-lite",
      .config_keys = ConfigKeys::kOverEmbedding,
      .combine = Combine::kPolynomial,
      .multiplier_rule = MultiplierRule::kNone,
      .multiplier_seed = 0,
      .modulus_rule = ModulusRule::kOddAbove,
      .max_order = 4,
      .heads_per_order = 4,
      .vocab_size = kLongCatVocab,
      .compressed_vocab_size = 0,
      .token_map_sha256 = "",
      .token_map_source = "",
      .pad_id = 0,
      .reset_token_id = 2,
      .pad_is_reset_token = false,
      .dead_positions = false,
      .rows_per_head = uint64_t{78} * kLongCatVocab,
      .layers = {0},
      .row_dim = 256,
      .weight_tensor = "model.ngram_embeddings.embedders.{piece}.weight",
      .scale_tensor = "",
      .scale_per_row = false,
      .column_tensors = true,
  };
}

}  // namespace

absl::Span<const Family> Families() {
  static const auto& families = *new std::vector<Family>{
      DeepSeekV41Flash(), EngramDemoV1(), Engram27b(), Engram40b(), Qwen4Exp(), LongCatFlashLite()};
  return families;
}

std::string FamilyNames() {
  return absl::StrJoin(Families(), ", ", [](std::string* out, const Family& family) {
    absl::StrAppend(out, family.name);
  });
}

absl::StatusOr<const Family*> FindFamily(absl::string_view name) {
  for (const Family& family : Families()) {
    if (family.name == name) return &family;
  }
  return absl::NotFoundError(
      absl::StrCat("there is no family \"", name, "\"; there are ", FamilyNames()));
}

}  // namespace engram
