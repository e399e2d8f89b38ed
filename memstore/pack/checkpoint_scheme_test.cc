// What config.json, flags and stored constants make of a checkpoint, through PackCheckpoint.
#include "memstore/pack/checkpoint_scheme.h"

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"
#include "memstore/os/posix_file.h"
#include "memstore/pack/pack_checkpoint.h"
#include "memstore/pack/testing/small_checkpoint.h"
#include "memstore/tokenizer/testing/small_tokenizer.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing_checkpoint::Numbers;
using testing_checkpoint::SomeBytes;
using testing_checkpoint::Tensor;
using testing_tokenizer::SmallTokenizer;

constexpr char kV41Map[] = "tests/golden/deepseek_v41_token_map.i32";
constexpr uint64_t kBase = 300;

std::string PleName(uint32_t layer, absl::string_view rest) {
  return absl::StrCat("model.language_model.layers.", layer, ".ple.ple_embedding.", rest);
}

class CheckpointSchemeTest : public testing::Test {
 protected:
  CheckpointSchemeTest() : dir_(fs::path(testing::TempDir()) / "checkpoint_scheme_test") {
    fs::remove_all(dir_);
    family_.rows_per_head = kBase;
  }
  ~CheckpointSchemeTest() override { fs::remove_all(dir_); }

  // A checkpoint of `family_`, without a config.json.
  void Write(std::vector<Tensor> more = {}) {
    std::vector<Tensor> tensors = std::move(more);
    const AddressScheme scheme = Derive(family_, {}).value();
    for (const LayerAddressing& layer : scheme.layers) AddTables(layer, tensors);
    fs::remove_all(dir_);
    testing_checkpoint::WriteCheckpoint(dir_ / "model", {{"a.safetensors", tensors}});
  }
  void WriteOfBase() {
    options_.rows_per_head = kBase;
    Write();
  }
  void AddTables(const LayerAddressing& layer, std::vector<Tensor>& tensors) const {
    const uint64_t dim = family_.row_dim;
    const auto add = [&](const std::string& name, const char* dtype, uint64_t rows,
                         uint64_t bytes) {
      tensors.push_back({name, dtype, {rows, dim}, SomeBytes(tensors.size(), rows * dim * bytes)});
    };
    if (family_.column_tensors) {
      for (size_t c = 0; c < layer.moduli.size(); ++c) {
        add(absl::StrCat("model.ngram_embeddings.embedders.", c, ".weight"), "BF16",
            layer.moduli[c], 2);
      }
    } else if (family_.config_keys == ConfigKeys::kPle) {
      add(PleName(layer.layer, "ngram_embedding.shard_0.weight"), "BF16", layer.Rows(), 2);
    } else {
      const std::string stem = absl::StrCat("layers.", layer.layer, ".engram.embed.");
      add(stem + "weight", "F8_E4M3", layer.Rows(), 1);
      tensors.push_back({stem + "scale",
                         "F8_E8M0",
                         {layer.Rows(), dim / 32},
                         std::string(layer.Rows() * dim / 32, '\x7f')});
    }
  }
  void Tokenizer(const SmallTokenizer& tokenizer) {
    testing_checkpoint::WriteText(dir_ / "model" / "tokenizer.json", tokenizer.Text());
  }
  void Config(const json& config) {
    testing_checkpoint::WriteText(dir_ / "model" / "config.json", config.dump());
  }
  absl::StatusOr<Manifest> Pack() {
    fs::remove_all(dir_ / "set");
    notes_.clear();
    options_.output = dir_ / "set";
    options_.on_note = [this](const std::string& line) { notes_.push_back(line); };
    return PackCheckpoint(**FindFamily(family_.name), dir_ / "model", options_);
  }
  std::string PackedId() {
    const absl::StatusOr<Manifest> packed = Pack();
    EXPECT_TRUE(packed.ok()) << packed.status();
    return packed.ok() ? packed->id : "";
  }
  void ExpectRefused(const std::vector<std::string>& named) {
    const absl::Status status = Pack().status();
    EXPECT_FALSE(status.ok());
    for (const std::string& name : named) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(name));
    }
    EXPECT_FALSE(fs::exists(dir_ / "set"));
  }
  // Whether the set is addressed as `family_` is.
  void ExpectAddressedAsTheModel(const Manifest& manifest) const {
    const AddressScheme expected = Derive(family_, {}).value();
    ASSERT_EQ(manifest.scheme.layers.size(), expected.layers.size());
    for (size_t l = 0; l < expected.layers.size(); ++l) {
      EXPECT_EQ(manifest.scheme.layers[l].layer, expected.layers[l].layer);
      EXPECT_EQ(manifest.scheme.layers[l].multipliers, expected.layers[l].multipliers);
      EXPECT_EQ(manifest.scheme.layers[l].moduli, expected.layers[l].moduli);
    }
    EXPECT_EQ(manifest.scheme.vocab_size, expected.vocab_size);
    EXPECT_EQ(manifest.scheme.pad_id, expected.pad_id);
    EXPECT_EQ(manifest.scheme.reset_token_id, expected.reset_token_id);
    EXPECT_EQ(manifest.scheme.radix, expected.radix);
  }

  fs::path dir_;
  Family family_ = **FindFamily("qwen4-exp");
  PackOptions options_;
  std::vector<std::string> notes_;
};

json QwenConfig() {
  return {{"seed", 1234},
          {"ngram_size", 3},
          {"heads_per_ngram", 8},
          {"eos_token_id", 248044},
          {"vocab_size", 248320},
          {"ple_layer_ids", {2}},
          {"ngram_vocab_size_base", kBase}};
}

TEST_F(CheckpointSchemeTest, AConfigurationThatAgreesChangesNothing) {
  WriteOfBase();
  const std::string id = PackedId();
  ASSERT_EQ(notes_.size(), 1u);
  EXPECT_THAT(notes_[0], HasSubstr("config.json was not compared"));
  EXPECT_THAT(notes_[0], HasSubstr("the constants are those of qwen4-exp"));
  Config({{"text_config", QwenConfig()}});
  EXPECT_EQ(PackedId(), id);
  EXPECT_THAT(notes_, IsEmpty());
  options_.rows_per_head = 0;  // config.json has it
  EXPECT_EQ(PackedId(), id);
  Config({{"architectures", {"Other"}}});
  options_.rows_per_head = kBase;
  EXPECT_EQ(PackedId(), id);
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("holds no key of the family")));
}

// Each alone: another id where the table still fits, refused with key and value where it doesn't.
TEST_F(CheckpointSchemeTest, NothingThatConfigurationSaysOtherwiseIsPassedOver) {
  WriteOfBase();
  const std::string id = PackedId();
  const std::pair<json, std::string> others[] = {
      {{{"seed", 7}}, ""},
      {{{"vocab_size", 248319}}, ""},
      {{{"eos_token_id", 5}}, ""},
      {{{"ngram_size", 4}}, "ngram_size is 4"},
      {{{"heads_per_ngram", 4}}, "heads_per_ngram is 4"},
      {{{"eos_token_id", {3, 4}}}, "eos_token_id is [3,4]"},
      {{{"vocab_size", 200000}}, "vocab_size is 200000"},
      {{{"ple_layer_ids", {5}}}, "ple_layer_ids is [5]"},
      {{{"ple_layer_ids", {2, 5}}}, "ple_layer_ids is [2,5]"},
      {{{"ngram_vocab_size_base", 30000000}}, "ngram_vocab_size_base is 30000000"},
      {{{"ple_embed_dim", 2544}}, "ple_embed_dim is 2544"},
      {{{"split_ngram_parts", 1}, {"make_ngram_vocab_size_divisible_by", 4096}}, "is 4096"}};
  for (const auto& [other, message] : others) {
    for (const bool whole : {false, true}) {
      json config = whole ? QwenConfig() : json::object();
      config.update(other);
      Config({{"text_config", config}});
      if (!message.empty()) {
        ExpectRefused({message});
        continue;
      }
      EXPECT_NE(PackedId(), id) << config;
      EXPECT_THAT(notes_, ElementsAre(HasSubstr(other.begin().key()))) << config;
    }
  }
}

TEST_F(CheckpointSchemeTest, WhatATextModelBesideSaysIsNoted) {
  WriteOfBase();
  const std::string id = PackedId();
  Config({{"text_config", {{"ngram_size", 3}}}, {"llm_config", {{"eos_token_id", 7}}}});
  EXPECT_EQ(PackedId(), id);
  EXPECT_THAT(notes_, ElementsAre(HasSubstr("llm_config.eos_token_id is 7")));
  Config({{"ngram_size", 3}, {"text_config", {{"eos_token_id", 7}}}});
  EXPECT_NE(PackedId(), id);
  Config({{"eos_token_id", {248044, 248046}}, {"text_config", {{"ngram_size", 3}}}});
  ExpectRefused({"--reset-token-id"});
  Config({{"eos_token_id", {248044, 248046}}, {"text_config", QwenConfig()}});
  EXPECT_EQ(PackedId(), id);
}

TEST_F(CheckpointSchemeTest, ASisterModelOfQwenNeedsNoCode) {
  family_.multiplier_seed = 99;
  family_.vocab_size = 5000;
  family_.pad_id = family_.reset_token_id = 17;
  family_.max_order = 4;
  family_.heads_per_order = 2;
  family_.layers = {0, 3};
  family_.row_dim = 48;
  Write();
  Config({{"llm_config",
           {{"seed", 99},
            {"ngram_size", 4},
            {"heads_per_ngram", 2},
            {"eos_token_id", {17}},
            {"vocab_size", 5000},
            {"ple_layer_ids", {1, 4}},
            {"ngram_vocab_size_base", kBase},
            {"ple_embed_dim", 48 * 6}}}});
  const absl::StatusOr<Manifest> packed = Pack();
  ASSERT_TRUE(packed.ok()) << packed.status();
  ExpectAddressedAsTheModel(*packed);
  EXPECT_EQ(packed->layers[0].row_bytes, 96u);
}

TEST_F(CheckpointSchemeTest, ASisterModelOfLongCatNeedsNoCode) {
  family_ = **FindFamily("longcat-flash-lite");
  family_.vocab_size = 100;
  family_.rows_per_head = 350;
  family_.max_order = 3;
  family_.heads_per_order = 3;
  family_.reset_token_id = 7;
  family_.row_dim = 16;
  Write();
  const json config = {{"vocab_size", 100},     {"ngram_vocab_size_ratio", 3.5},
                       {"emb_neighbor_num", 3}, {"emb_split_num", 3},
                       {"eos_token_id", 7},     {"hidden_size", 96}};
  Config(config);
  const absl::StatusOr<Manifest> packed = Pack();
  ASSERT_TRUE(packed.ok()) << packed.status();
  ExpectAddressedAsTheModel(*packed);
  // The first columns of a model with more heads are as long as these.
  json fewer = config;
  fewer["emb_neighbor_num"] = 2;
  fewer["hidden_size"] = 48;
  Config(fewer);
  ExpectRefused({"column 3", "emb_neighbor_num is 2"});
}

TEST_F(CheckpointSchemeTest, ASisterModelOfV41BringsItsTokenMap) {
  family_ = **FindFamily("deepseek-v4.1-flash");
  const int32_t map[] = {0, 1, 1, 2, 3, 0};
  const std::string bytes(reinterpret_cast<const char*>(map), sizeof(map));
  family_.vocab_size = 6;
  family_.compressed_vocab_size = 4;
  family_.token_map_sha256 = Sha256Hex(bytes);
  family_.pad_id = 3;  // of the token 4
  family_.rows_per_head = 50;
  family_.heads_per_order = 2;
  family_.layers = {2};
  Write();
  testing_checkpoint::WriteText(dir_ / "map", bytes);
  options_.token_map_file = dir_ / "map";
  json config = {{"engram_layer_ids", {2}},  {"engram_vocab_size", 50},
                 {"engram_n_heads", 2},      {"engram_compressed_vocab_size", 4},
                 {"engram_pad_token_id", 4}, {"engram_num_embeddings", {0}}};
  config["engram_num_embeddings"][0] = Derive(family_, {})->layers[0].Rows();
  Config(config);
  const absl::StatusOr<Manifest> packed = Pack();
  ASSERT_TRUE(packed.ok()) << packed.status();
  ExpectAddressedAsTheModel(*packed);
  EXPECT_EQ(packed->scheme.token_map->sha256, Sha256Hex(bytes));
  config["engram_pad_token_id"] = 6;
  Config(config);
  ExpectRefused({"pad token 6", "6 ids"});
  config["engram_pad_token_id"] = 4;
  config["engram_compressed_vocab_size"] = 5;
  Config(config);
  ExpectRefused({"4 compressed ids", "5"});
  config["engram_compressed_vocab_size"] = 4;
  config["engram_num_embeddings"] = {1};
  Config(config);
  ExpectRefused({"engram_num_embeddings is [1]"});
}

TEST_F(CheckpointSchemeTest, ASisterModelOfV41IsHashedByItsOwnTokenizer) {
  const SmallTokenizer tokenizer = testing_tokenizer::ByteLevelTokenizer();
  family_ = **FindFamily("deepseek-v4.1-flash");
  family_.vocab_size = static_cast<uint32_t>(tokenizer.map.size());
  family_.compressed_vocab_size = tokenizer.compressed_vocab_size;
  family_.pad_id = tokenizer.map[2];
  family_.rows_per_head = options_.rows_per_head = 20;
  Write();
  ExpectRefused({"tokenizer.json", "--token-map FILE"});
  const fs::path link = dir_ / "model" / "tokenizer.json";
  fs::create_symlink("../blobs/1", link);
  ExpectRefused({link, "../blobs/1"});
  fs::remove(link);
  Tokenizer(tokenizer);
  const absl::StatusOr<Manifest> packed = Pack();
  ASSERT_TRUE(packed.ok()) << packed.status();
  ExpectAddressedAsTheModel(*packed);
  const std::string bytes(reinterpret_cast<const char*>(tokenizer.map.data()),
                          tokenizer.map.size() * sizeof(int32_t));
  EXPECT_EQ(packed->scheme.token_map->sha256, Sha256Hex(bytes));
  EXPECT_EQ(ReadWholeFile(dir_ / "set" / kTokenMapFile, 1 << 20).value(), bytes);
  EXPECT_THAT(notes_, testing::Contains(HasSubstr("tokenizer.json")));

  const size_t ids = tokenizer.map.size();
  Config({{"vocab_size", ids + ids / 16},
          {"engram_compressed_vocab_size", tokenizer.compressed_vocab_size}});
  EXPECT_EQ(PackedId(), packed->id);
  // The same map as a file.
  testing_checkpoint::WriteText(dir_ / "map", bytes);
  options_.token_map_file = dir_ / "map";
  EXPECT_EQ(PackedId(), packed->id);
  options_.token_map_file.clear();
  // A vocabulary that no padding makes of the map's; the text model's counts.
  for (const json& config :
       {json{{"vocab_size", 129280}}, json{{"vocab_size", 129280}, {"engram_layer_ids", {1, 14}}},
        json{{"text_config", {{"vocab_size", 129280}, {"engram_layer_ids", {1, 14}}}}}}) {
    Config(config);
    ExpectRefused({absl::StrCat("token map has ", ids, " ids"), "vocab_size is 129280"});
  }
  options_.token_map_file = dir_ / "map";
  Config(
      {{"vocab_size", 129280}, {"engram_compressed_vocab_size", tokenizer.compressed_vocab_size}});
  ExpectRefused({absl::StrCat("token map has ", ids, " ids"), "vocab_size is 129280"});
  options_.token_map_file.clear();
  for (const int size : {9, 99092}) {
    Config({{"engram_compressed_vocab_size", size}});
    ExpectRefused({absl::StrCat("engram_compressed_vocab_size is ", size), "--token-map FILE",
                   absl::StrCat("is ", tokenizer.compressed_vocab_size)});
  }
}

TEST_F(CheckpointSchemeTest, ATokenizerThatMakesTheKnownMapPacksAsThatDoes) {
  family_ = **FindFamily("deepseek-v4.1-flash");
  family_.rows_per_head = options_.rows_per_head = 20;
  Write();
  options_.token_map_file = kV41Map;
  const std::string id = PackedId();
  options_.token_map_file.clear();
  const std::string bytes = ReadWholeFile(kV41Map, 1 << 20).value();
  std::vector<int32_t> map(bytes.size() / sizeof(int32_t));
  std::memcpy(map.data(), bytes.data(), bytes.size());
  Tokenizer(testing_tokenizer::TokenizerOf(map));
  EXPECT_EQ(PackedId(), id);
  // Of the known sizes, and another: refused, also where config.json has the known size.
  ASSERT_EQ(map[223], map[201]);
  map[223] = 0;
  Tokenizer(testing_tokenizer::TokenizerOf(map));
  ExpectRefused({"as many ids", "--token-map FILE"});
  Config({{"engram_compressed_vocab_size", 99092}});
  ExpectRefused({"is not the token map", family_.token_map_sha256});
}

TEST_F(CheckpointSchemeTest, KeysUnderAnyWrapperAreRead) {
  family_ = **FindFamily("deepseek-v4.1-flash");
  family_.rows_per_head = options_.rows_per_head = 20;
  Write();
  options_.token_map_file = kV41Map;
  const std::string id = PackedId();
  for (const char* wrapper : {"text_config", "language_config", "llm_config", "thinker_config"}) {
    Config({{wrapper, {{"engram_layer_ids", {3}}, {"engram_pad_token_id", 9}}}});
    ExpectRefused({absl::StrCat(wrapper, ".engram_layer_ids is [3]"), "layer 1"});
    Config({{wrapper, {{"engram_layer_ids", {1, 14}}, {"engram_pad_token_id", 2}}}});
    EXPECT_EQ(PackedId(), id);
  }
  Config({{"text_config", {{"engram_n_heads", 8}}}, {"llm_config", {{"engram_n_heads", 8}}}});
  ExpectRefused({"text_config", "llm_config"});
  Config({{"engram_layer_ids", {1}}});
  ExpectRefused({"layer 14", "layers.14.engram.embed", "engram_layer_ids is [1]"});
}

TEST_F(CheckpointSchemeTest, ALinkToNoConfigurationIsNotTakenForNone) {
  WriteOfBase();
  fs::create_symlink("../blobs/1", dir_ / "model" / "config.json");
  ExpectRefused({"config.json", "../blobs/1"});
}

TEST_F(CheckpointSchemeTest, SmallFilesOfACacheAreComparedWithTheirNames) {
  WriteOfBase();
  const std::string digest(64, 'A');
  fs::create_directories(dir_ / "blobs");
  testing_checkpoint::WriteText(dir_ / "blobs" / digest, "{}");
  for (const char* name : {"config.json", "model.safetensors.index.json"}) {
    fs::remove(dir_ / "model" / name);
    fs::create_symlink("../blobs/" + digest, dir_ / "model" / name);
    ExpectRefused({digest, "is damaged"});
    fs::remove(dir_ / "model" / name);
  }
}

TEST_F(CheckpointSchemeTest, ATableOfADraftModelIsNotTheTable) {
  options_.rows_per_head = kBase;
  const auto write_with = [this](const std::string& name) {
    Write({{name + "ngram_embedding.shard_0.weight", "BF16", {1, 160}, std::string(320, 'd')},
           Numbers(name + "layer_multipliers", {1, 3, 5})});
  };
  write_with("other.");
  const std::string id = PackedId();
  for (const int layer : {1, 4}) {
    write_with(absl::StrCat("mtp.layers.", layer, ".ple.ple_embedding."));
    EXPECT_EQ(PackedId(), id);
  }
}

// One tensor, a file a rank: the lengths of its parts say nothing of the padding of pieces.
TEST_F(CheckpointSchemeTest, PartsOfRanksAreNoPieces) {
  WriteOfBase();
  const std::string id = PackedId();
  const LayerAddressing layer = Derive(family_, {}).value().layers[0];
  uint64_t first_rows = 0;
  for (size_t column = 0; column < layer.moduli.size() / 2; ++column) {
    first_rows += layer.moduli[column];
  }
  const std::string rows = SomeBytes(0, layer.Rows() * 320);
  const auto write = [&](const std::vector<int64_t>& second) {
    fs::remove_all(dir_ / "model");
    testing_checkpoint::WriteCheckpoint(
        dir_ / "model", {{"model-rank-0-part-0.safetensors",
                          {{PleName(1, "ngram_embedding.weight"),
                            "BF16",
                            {first_rows, 160},
                            rows.substr(0, first_rows * 320)},
                           Numbers(PleName(1, "layer_multipliers"), layer.multipliers)}},
                         {"model-rank-1-part-0.safetensors",
                          {{PleName(1, "ngram_embedding.weight"),
                            "BF16",
                            {layer.Rows() - first_rows, 160},
                            rows.substr(first_rows * 320)},
                           Numbers(PleName(1, "layer_multipliers"), second)}}});
    fs::remove(dir_ / "model" / "model.safetensors.index.json");
    Config({{"split_ngram_parts", 2}, {"make_ngram_vocab_size_divisible_by", 1}});
  };
  write(layer.multipliers);
  EXPECT_EQ(PackedId(), id);
  write({1, 3, 5});
  ExpectRefused({"layer_multipliers", "model-rank-1-part-0.safetensors", "[1, 3, 5]"});
}

TEST_F(CheckpointSchemeTest, StoredConstantsAreComparedOrTaken) {
  const LayerAddressing made = Derive(family_, {}).value().layers[0];
  const std::vector<int64_t> moduli(made.moduli.begin(), made.moduli.end());
  const std::string name = PleName(1, "layer_multipliers");
  options_.rows_per_head = kBase;
  Write({Numbers(name, made.multipliers), Numbers(PleName(1, "ngram_heads_vocab_sizes"), moduli)});
  const std::string id = PackedId();
  EXPECT_THAT(notes_, ElementsAre(testing::EndsWith("config.json")));  // nothing more to say
  Write({Numbers(name, {1, 3, 5})});
  ExpectRefused({name, "[1, 3, 5]", absl::StrCat(made.multipliers[0]), "hash multipliers"});
  options_.use_stored_constants = true;
  const absl::StatusOr<Manifest> packed = Pack();
  ASSERT_TRUE(packed.ok()) << packed.status();
  EXPECT_THAT(packed->scheme.layers[0].multipliers, ElementsAre(1, 3, 5));
  EXPECT_NE(packed->id, id);
  EXPECT_THAT(notes_, testing::Contains(HasSubstr("that the checkpoint stores in " + name)));
  Write();
  ExpectRefused({"--use-stored-constants"});
}

// Who fetches the files of the table alone has not got the others.
TEST_F(CheckpointSchemeTest, ConstantsInAFileThatIsNotHereAreSaidNotToBeCompared) {
  WriteOfBase();
  const std::string id = PackedId();
  const json index = {{"weight_map",
                       {{PleName(1, "layer_multipliers"), "b.safetensors"},
                        {PleName(1, "ngram_embedding.shard_0.weight"), "a.safetensors"}}}};
  testing_checkpoint::WriteText(dir_ / "model" / "model.safetensors.index.json", index.dump());
  EXPECT_EQ(PackedId(), id);
  EXPECT_THAT(notes_, testing::Contains(HasSubstr("b.safetensors")));
  options_.use_stored_constants = true;
  ExpectRefused({"b.safetensors"});
}

TEST_F(CheckpointSchemeTest, TheTokenThatResetsIsTold) {
  WriteOfBase();
  const std::string id = PackedId();
  Config({{"eos_token_id", {248046, 248044}}});
  ExpectRefused({"--reset-token-id"});
  options_.reset_token_id = 248044;
  EXPECT_EQ(PackedId(), id);
  options_.reset_token_id = 248046;
  EXPECT_NE(PackedId(), id);
  Config({{"eos_token_id", 248044}});
  ExpectRefused({"eos_token_id is 248044", "--reset-token-id is 248046"});
}

TEST_F(CheckpointSchemeTest, ATableThatDoesNotFitNamesWhereItsSizeComesFrom) {
  Write();
  EXPECT_THAT(std::string(Pack().status().message()), testing::Not(HasSubstr("said otherwise")));
  Config({{"text_config", {{"ngram_vocab_size_base", 20000000}}}});  // the family's
  ExpectRefused({"shard_0", "text_config.ngram_vocab_size_base is 20000000"});
  fs::remove(dir_ / "model" / "config.json");
  options_.rows_per_head = 20;
  ExpectRefused({"shard_0", "--rows-per-head is 20"});
}

}  // namespace
}  // namespace engram
