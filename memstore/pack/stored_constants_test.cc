#include "memstore/pack/stored_constants.h"

#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/pack/testing/small_checkpoint.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing_checkpoint::Tensor;

constexpr char kPle[] = "model.language_model.layers.1.ple.ple_embedding.";

template <typename Number>
std::string Bytes(const std::vector<Number>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(Number)};
}

template <typename Number>
Tensor I64(const std::string& name, const std::vector<Number>& numbers) {
  return {name, "I64", {numbers.size()}, Bytes(numbers)};
}

class StoredConstantsTest : public testing::Test {
 protected:
  StoredConstantsTest() : dir_(fs::path(testing::TempDir()) / "stored_constants_test") {
    fs::remove_all(dir_);
  }
  ~StoredConstantsTest() override { fs::remove_all(dir_); }

  void SetUp() override { Use("qwen4-exp"); }
  void Use(const char* family) {
    family_ = **FindFamily(family);
    scheme_ = Derive(family_, {.rows_per_head = 1000}).value();
  }
  Checkpoint Open(const std::vector<Tensor>& tensors) {
    return OpenFiles({{"a.safetensors", tensors}});
  }
  // Without an index, so that the files may be those of ranks.
  Checkpoint OpenFiles(const testing_checkpoint::Files& files) {
    fs::remove_all(dir_);
    testing_checkpoint::WriteCheckpoint(dir_, files);
    fs::remove(dir_ / "model.safetensors.index.json");
    const WantedTensor constants = ConstantTensors(family_), others = OtherTables(family_, scheme_);
    return Checkpoint::Open(dir_,
                            [&](absl::string_view name) { return constants(name) || others(name); })
        .value();
  }
  absl::StatusOr<std::vector<std::string>> Compare(const std::vector<Tensor>& tensors,
                                                   bool take_stored = false) {
    return CompareStoredConstants(family_, Open(tensors), take_stored, scheme_);
  }
  absl::Status OtherTablesOf(const std::vector<std::string>& names) {
    std::vector<Tensor> tensors;
    for (const std::string& name : names) tensors.push_back({name, "U8", {1}, "x"});
    return CheckNoOtherTables(family_, scheme_, Open(tensors));
  }
  std::vector<Tensor> Right() const {
    const LayerAddressing& layer = scheme_.layers[0];
    return {I64(absl::StrCat(kPle, "layer_multipliers"), layer.multipliers),
            I64(absl::StrCat(kPle, "ngram_heads_vocab_sizes"), layer.moduli),
            I64(absl::StrCat(kPle, "ngram_heads_offsets"), layer.offsets)};
  }
  void ExpectRefused(const absl::Status& status, const std::vector<std::string>& named) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    for (const std::string& name : named) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(name));
    }
  }

  fs::path dir_;
  Family family_ = **FindFamily("qwen4-exp");
  AddressScheme scheme_;
};

TEST_F(StoredConstantsTest, AgreeingOnesAreNamed) {
  EXPECT_THAT(Compare(Right()).value(), testing::SizeIs(3));
  EXPECT_THAT(Compare({}).value(), IsEmpty());
  // In 32 bits, of another shape, behind another prefix.
  const LayerAddressing& layer = scheme_.layers[0];
  const std::vector<int32_t> moduli(layer.moduli.begin(), layer.moduli.end());
  const Tensor small = {"layers.1.ple.ngram_heads_vocab_sizes", "I32", {1, 16}, Bytes(moduli)};
  EXPECT_THAT(Compare({small}).value(), ElementsAre(small.name));
  // Without a sign there are numbers that are none with it.
  const Tensor large = {
      "layers.1.ple.layer_multipliers", "U32", {3}, Bytes(std::vector<uint32_t>{0xFFFFFFFF, 3, 5})};
  ExpectRefused(Compare({large}).status(), {"[4294967295, 3, 5]"});
  const Tensor negative = {large.name, "I32", {3}, Bytes(std::vector<int32_t>{-1, 3, 5})};
  ExpectRefused(Compare({negative}).status(), {"[-1, ", "negative"});
}

TEST_F(StoredConstantsTest, EachThatDisagreesIsRefusedWithBothValues) {
  for (size_t i = 0; i < 3; ++i) {
    std::vector<Tensor> tensors = Right();
    tensors[i].bytes[0] ^= 2;
    int64_t first;
    std::memcpy(&first, tensors[i].bytes.data(), sizeof(first));
    ExpectRefused(
        Compare(tensors).status(),
        {tensors[i].name, (dir_ / "a.safetensors").string(), absl::StrCat("[", first, ","),
         absl::StrCat("[", first ^ 2, ","), "layer 1", "--use-stored-constants"});
  }
}

TEST_F(StoredConstantsTest, OfTheDemoTheOffsetsAreCompared) {
  Use("engram-demo-v1");
  std::vector<Tensor> tensors;
  for (const LayerAddressing& layer : scheme_.layers) {
    tensors.push_back(
        I64(absl::StrCat("layers.", layer.layer, ".engram.multi_head_embedding.offsets"),
            layer.offsets));
  }
  EXPECT_THAT(Compare(tensors).value(), testing::SizeIs(2));
  tensors[1].bytes[8] ^= 1;
  ExpectRefused(Compare(tensors).status(), {"layers.15.engram", "first rows"});
}

TEST_F(StoredConstantsTest, TakesTheStoredOnesWhenAskedTo) {
  std::vector<int64_t> multipliers = {1, 3, 5};
  std::vector<uint64_t> moduli = scheme_.layers[0].moduli;
  std::swap(moduli[0], moduli[1]);
  const std::vector<Tensor> tensors = {I64(absl::StrCat(kPle, "layer_multipliers"), multipliers),
                                       I64(absl::StrCat(kPle, "ngram_heads_vocab_sizes"), moduli)};
  ASSERT_TRUE(Compare(tensors, true).ok());
  EXPECT_EQ(scheme_.layers[0].multipliers, multipliers);
  EXPECT_EQ(scheme_.layers[0].moduli, moduli);
  EXPECT_EQ(scheme_.layers[0].offsets[1], moduli[0]);  // which follow from the sizes
  ExpectRefused(Compare({}, true).status(), {"--use-stored-constants", "no tensor"});
}

TEST_F(StoredConstantsTest, StoredOnesThatMakeNoSchemeAreRefused) {
  const std::pair<const char*, std::vector<int64_t>> bad[] = {
      {"layer_multipliers", {0, 3, 5}},
      {"layer_multipliers", {INT64_MAX, 3, 5}},
      {"layer_multipliers", {-1, 3, 5}},
      {"ngram_heads_offsets", std::vector<int64_t>(16, 5)},
      {"ngram_heads_vocab_sizes", std::vector<int64_t>(16, 0)},
      {"ngram_heads_vocab_sizes", std::vector<int64_t>(16, INT64_MAX)}};
  for (const auto& [name, numbers] : bad) {
    Use("qwen4-exp");
    ExpectRefused(Compare({I64(absl::StrCat(kPle, name), numbers)}, true).status(), {name});
  }
}

TEST_F(StoredConstantsTest, RefusesTensorsOfAnotherKind) {
  const std::string name = absl::StrCat(kPle, "layer_multipliers");
  const std::vector<Tensor> bad = {{name, "I64", {4}, std::string(32, '\1')},
                                   {name, "I64", {}, std::string(8, '\1')},
                                   {name, "F32", {3}, std::string(12, '\1')},
                                   {name, "I64", {0}, ""}};
  for (const Tensor& tensor : bad) {
    ExpectRefused(Compare({tensor}).status(),
                  {name, tensor.dtype + " [", "3 whole numbers", "take it out of the index"});
  }
  const Tensor right = Right()[0];
  Tensor twin = right;
  twin.name = "other.layers.1.ple.layer_multipliers";
  ExpectRefused(Compare({right, twin}).status(), {right.name, twin.name});
}

TEST_F(StoredConstantsTest, TablesOfLayersThatTheSchemeLacksAreRefused) {
  ExpectRefused(OtherTablesOf({"model.layers.4.ple.ple_embedding.ngram_embedding.shard_0.weight"}),
                {"layer 4", "shard_0", "a.safetensors", "tables are 1"});
  ExpectRefused(OtherTablesOf({"layers.4.ple.ngram_embedding.weight"}), {"layer 4"});
  ExpectRefused(OtherTablesOf({"layers.4.ple.ple_embedding.layer_multipliers"}), {"layer 4"});
  Use("deepseek-v4.1-flash");
  for (const char* name : {"layers.7.engram.embed.weight", "model.layers.7.engram.embed.scale",
                           "layers.7.engram.embed_tokens.weight",
                           "layers.7.engram.multi_head_embedding.embedding.weight"}) {
    ExpectRefused(OtherTablesOf({name}), {"layer 7", name, "1, 14"});
  }
  Use("longcat-flash-lite");
  ExpectRefused(OtherTablesOf({"model.ngram_embeddings.embedders.12.weight"}),
                {"column 12", "12 columns"});
}

TEST_F(StoredConstantsTest, EveryRanksCopyCounts) {
  Tensor one = Right()[0], other = one;
  other.bytes[0] ^= 2;
  const auto ranks = [&](const Tensor& first, const Tensor& second) {
    return OpenFiles({{"mp_rank_00.safetensors", {first}}, {"mp_rank_01.safetensors", {second}}});
  };
  const auto compare = [&](const Checkpoint& checkpoint, bool take_stored) {
    return CompareStoredConstants(family_, checkpoint, take_stored, scheme_);
  };
  EXPECT_THAT(compare(ranks(one, one), false).value(), ElementsAre(one.name));
  ExpectRefused(compare(ranks(one, other), false).status(), {one.name, "mp_rank_01"});
  ExpectRefused(compare(ranks(one, other), true).status(), {"mp_rank_01", "mp_rank_00"});
  ASSERT_TRUE(compare(ranks(other, other), true).ok());
  EXPECT_EQ(scheme_.layers[0].multipliers[0] ^ 2, Derive(family_, {})->layers[0].multipliers[0]);

  one = {"layers.4.ple.ngram_embedding.weight", "U8", {1}, "x"};
  ExpectRefused(CheckNoOtherTables(family_, scheme_, ranks(one, one)), {"layer 4", "mp_rank_00"});
}

TEST_F(StoredConstantsTest, WhatIsNoTableOrOfAnotherModelIsLeftAlone) {
  EXPECT_TRUE(
      OtherTablesOf({"model.layers.1.ple.ple_embedding.ngram_embedding.shard_0.weight",
                     "model.layers.4.ple.key_proj.weight", "model.layers.4.mlp.embed.weight",
                     "mtp.layers.0.ple.ple_embedding.ngram_embedding.shard_0.weight",
                     "layers.x.ple.ngram_embedding.weight", "layers.4.ple"})
          .ok());
  Use("deepseek-v4.1-flash");
  EXPECT_TRUE(OtherTablesOf({"layers.7.engram.wkv.weight", "layers.14.engram.embed.weight",
                             "embed_tokens.weight"})
                  .ok());
  Use("longcat-flash-lite");
  EXPECT_TRUE(OtherTablesOf({"model.ngram_embeddings.embedders.11.weight",
                             "model.ngram_embeddings.post_projs.12.weight",
                             "mtp.ngram_embeddings.embedders.12.weight"})
                  .ok());
}

}  // namespace
}  // namespace engram
