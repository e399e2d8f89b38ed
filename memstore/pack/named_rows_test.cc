// Rows as they are, through a whole pack: each is held against what the tensors were written with.
#include "memstore/pack/named_rows.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/pack/pack_checkpoint.h"
#include "memstore/pack/testing/packed_rows.h"
#include "memstore/pack/testing/small_checkpoint.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using testing_checkpoint::Files;
using testing_checkpoint::PackedRows;
using testing_checkpoint::SomeBytes;
using testing_checkpoint::Tensor;
using testing_checkpoint::WriteCheckpoint;

constexpr char kQwen[] = "qwen4-exp";
constexpr char kV41[] = "deepseek-v4.1-flash";
constexpr char kV41Map[] = "tests/golden/deepseek_v41_token_map.i32";
constexpr uint64_t kRowsPerHead = 50;
constexpr char kStem[] = "model.language_model.layers.1.ple.ple_embedding.ngram_embedding.";

uint64_t RowsOf(absl::string_view family, uint32_t layer) {
  return Derive(**FindFamily(family), {kRowsPerHead, {}}).value().FindLayer(layer)->Rows();
}

// Row by row: of each tensor's bytes as many as its rows have.
std::string Joined(uint64_t rows, const std::vector<std::pair<std::string, uint64_t>>& parts) {
  std::string joined;
  for (uint64_t row = 0; row < rows; ++row) {
    for (const auto& [bytes, width] : parts) joined += bytes.substr(row * width, width);
  }
  return joined;
}

std::string Float(float value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

class NamedRowsTest : public testing::Test {
 protected:
  NamedRowsTest() : dir_(fs::path(testing::TempDir()) / "named_rows_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_ / "model");
  }
  ~NamedRowsTest() override { fs::remove_all(dir_); }

  absl::StatusOr<Manifest> Pack(absl::string_view family, const Files& files,
                                const std::vector<std::string>& rows,
                                const std::string& encoding = "nvfp4") {
    fs::remove_all(dir_);
    WriteCheckpoint(dir_ / "model", files);
    return PackAgain(family, rows, encoding);
  }
  absl::StatusOr<Manifest> PackAgain(absl::string_view family, const std::vector<std::string>& rows,
                                     const std::string& encoding = "nvfp4") {
    fs::remove_all(dir_ / "set");
    notes_.clear();
    PackOptions options;
    options.output = dir_ / "set";
    options.rows_per_head = kRowsPerHead;
    options.rows = rows;
    options.encoding = encoding;
    if (family == kV41) options.token_map_file = kV41Map;
    options.writer.shard_bytes = 1u << 20;
    options.on_note = [this](const std::string& note) { notes_ += note + "\n"; };
    return PackCheckpoint(**FindFamily(family), dir_ / "model", options);
  }
  std::string Rows(const LayerTableSpec& layer) const { return PackedRows(dir_ / "set", layer); }
  void ExpectRefused(const absl::StatusOr<Manifest>& packed, absl::StatusCode code,
                     const std::vector<std::string>& parts) const {
    EXPECT_EQ(packed.status().code(), code) << packed.status();
    for (const std::string& part : parts) {
      EXPECT_THAT(std::string(packed.status().message()), HasSubstr(part));
    }
    EXPECT_FALSE(fs::exists(dir_ / "set"));
  }

  fs::path dir_;
  std::string notes_;
};

// NVFP4: two codes a byte, a scale for 16 values, one for the table.
Files Nvfp4Files() {
  const uint64_t rows = RowsOf(kQwen, 1);
  return {{"a.safetensors",
           {{absl::StrCat(kStem, "weight_packed"), "U8", {rows, 80}, SomeBytes(1, rows * 80)},
            {absl::StrCat(kStem, "weight_scale_2"), "F32", {}, Float(0.25f)}}},
          {"b.safetensors",
           {{absl::StrCat(kStem, "weight_scale"), "F8_E4M3", {rows, 10}, SomeBytes(2, rows * 10)},
            {"mtp.layers.1.ple.ple_embedding.ngram_embedding.weight_packed", "U8", {1}, "x"},
            {"model.norm.weight", "U8", {1}, "x"}}}};
}

TEST_F(NamedRowsTest, JoinsCodesAndScalesInTheOrderGiven) {
  const uint64_t rows = RowsOf(kQwen, 1);
  const std::pair<std::string, uint64_t> codes{SomeBytes(1, rows * 80), 80};
  const std::pair<std::string, uint64_t> scales{SomeBytes(2, rows * 10), 10};
  const absl::StatusOr<Manifest> packed =
      Pack(kQwen, Nvfp4Files(), {"ngram_embedding.weight_packed", "weight_scale"});
  ASSERT_TRUE(packed.ok()) << packed.status();
  const LayerTableSpec& layer = packed->layers[0];
  EXPECT_EQ(layer.row_bytes, 90u);
  EXPECT_EQ(layer.encoding.kind, RowEncodingKind::kOpaque);
  EXPECT_EQ(layer.encoding.label, "nvfp4");
  EXPECT_EQ(layer.encoding.dim, 160u);
  EXPECT_EQ(layer.encoding.global_scale, 0);
  EXPECT_TRUE(Rows(layer) == Joined(rows, {codes, scales}));
  EXPECT_THAT(notes_, HasSubstr("weight_scale_2 (F32 [])"));
  const absl::StatusOr<Manifest> turned =
      PackAgain(kQwen, {"weight_scale", absl::StrCat(kStem, "weight_packed")});
  ASSERT_TRUE(turned.ok()) << turned.status();
  EXPECT_TRUE(Rows(turned->layers[0]) == Joined(rows, {scales, codes}));
  EXPECT_NE(turned->id, packed->id);
}

TEST_F(NamedRowsTest, TheEncodingIsOfTheId) {
  const std::vector<std::string> names = {"weight_packed", "weight_scale"};
  const std::string id = Pack(kQwen, Nvfp4Files(), names)->id;
  EXPECT_EQ(PackAgain(kQwen, names)->id, id);
  EXPECT_NE(PackAgain(kQwen, names, "other")->id, id);
  const absl::StatusOr<Manifest> scaled =
      PackAgain(kQwen, {"weight_packed", "weight_scale", "weight_scale_2"});
  ASSERT_TRUE(scaled.ok()) << scaled.status();
  EXPECT_EQ(scaled->layers[0].encoding.global_scale, 0.25f);
  EXPECT_EQ(scaled->layers[0].row_bytes, 90u);
  EXPECT_NE(scaled->id, id);
  EXPECT_THAT(notes_, Not(HasSubstr("beside")));
  ExpectRefused(PackAgain(kQwen, names, ""), absl::StatusCode::kInvalidArgument, {"--encoding"});
  ExpectRefused(PackAgain(kQwen, names, "a b"), absl::StatusCode::kInvalidArgument,
                {"--encoding is \"a b\""});
  ExpectRefused(PackAgain(kQwen, {}, "nvfp4"), absl::StatusCode::kInvalidArgument, {"--rows"});
}

// Of several layers each name means one tensor a layer; a scale a row is a tensor of one dimension.
TEST_F(NamedRowsTest, EveryLayerHasItsOwn) {
  Files files;
  std::map<uint32_t, std::string> expected;
  for (const uint32_t layer : {1u, 14u}) {
    const uint64_t rows = RowsOf(kV41, layer);
    const std::string stem = absl::StrCat("layers.", layer, ".engram.embed.");
    files["model.safetensors"].push_back(
        {stem + "weight", "F8_E4M3", {rows, 256}, SomeBytes(layer, rows * 256)});
    files["model.safetensors"].push_back(
        {stem + "row_scale", "F32", {rows}, SomeBytes(layer + 9, rows * 4)});
    expected[layer] =
        Joined(rows, {{SomeBytes(layer, rows * 256), 256}, {SomeBytes(layer + 9, rows * 4), 4}});
  }
  for (const std::vector<std::string>& names :
       {std::vector<std::string>{"embed.weight", "embed.row_scale"},
        {"layers.{layer}.engram.embed.weight", "engram.embed.row_scale"}}) {
    const absl::StatusOr<Manifest> packed = Pack(kV41, files, names, "fp8_row_f32");
    ASSERT_TRUE(packed.ok()) << packed.status();
    for (const LayerTableSpec& layer : packed->layers) {
      EXPECT_EQ(layer.row_bytes, 260u);
      EXPECT_TRUE(Rows(layer) == expected[layer.layer]) << layer.layer;
    }
  }
  ExpectRefused(PackAgain(kV41, {"layers.1.engram.embed.weight"}), absl::StatusCode::kNotFound,
                {"layer 14"});
}

TEST_F(NamedRowsTest, PiecesAreLaidOutAsTheFamilysOwn) {
  const uint64_t rows = RowsOf(kQwen, 1), length = rows / 3 + 1;
  std::string codes = SomeBytes(1, rows * 80), scales = SomeBytes(2, rows * 10);
  codes.resize(3 * length * 80, '\0');
  scales.resize(3 * length * 10, '\0');
  Files files;
  for (uint64_t piece = 0; piece < 3; ++piece) {
    const std::string stem = absl::StrCat(kStem, "shard_", piece, ".");
    files["model.safetensors"].push_back(
        {stem + "codes", "U8", {length, 80}, codes.substr(piece * length * 80, length * 80)});
    files["model.safetensors"].push_back(
        {stem + "scales", "U8", {length, 10}, scales.substr(piece * length * 10, length * 10)});
  }
  const std::vector<std::string> names = {"shard_{piece}.codes", "shard_{piece}.scales"};
  const absl::StatusOr<Manifest> packed = Pack(kQwen, files, names);
  ASSERT_TRUE(packed.ok()) << packed.status();
  EXPECT_TRUE(Rows(packed->layers[0]) == Joined(rows, {{codes, 80}, {scales, 10}}));
  files["model.safetensors"].erase(files["model.safetensors"].begin() + 2);
  ExpectRefused(Pack(kQwen, files, names), absl::StatusCode::kNotFound, {"lacks piece 1"});
  ExpectRefused(PackAgain(kQwen, {"codes"}), absl::StatusCode::kFailedPrecondition,
                {"shard_0.codes", "shard_2.codes", "both end in"});
}

TEST_F(NamedRowsTest, WrongTensorsAreRefusedByName) {
  constexpr auto kNotThere = absl::StatusCode::kNotFound;
  constexpr auto kDoesNotFit = absl::StatusCode::kFailedPrecondition;
  const uint64_t rows = RowsOf(kQwen, 1);
  ExpectRefused(Pack(kQwen, Nvfp4Files(), {"weight_packed", "weight_zero"}), kNotThere,
                {"lacks rows of layer 1: no tensor's name there is weight_zero or ends in "
                 ".weight_zero (--rows); "});
  Files files = Nvfp4Files();
  files["b.safetensors"][0].shape = {rows + 1, 10};
  files["b.safetensors"][0].bytes += std::string(10, '\0');
  ExpectRefused(Pack(kQwen, files, {"weight_packed", "weight_scale"}), kDoesNotFit,
                {"weight_packed", "weight_scale", absl::StrCat("has ", rows, " rows"),
                 absl::StrCat("has ", rows + 1)});
  files = Nvfp4Files();
  for (const char* file : {"a.safetensors", "b.safetensors"}) {
    Tensor& tensor = files[file][0];
    tensor.shape[0] -= 1;
    tensor.bytes.resize(tensor.bytes.size() - tensor.shape[1]);
  }
  ExpectRefused(Pack(kQwen, files, {"weight_packed", "weight_scale"}), kDoesNotFit,
                {"weight_packed", "--rows-per-head"});
  files = Nvfp4Files();
  files["b.safetensors"].push_back({"other.layers.1.x.weight_packed", "U8", {1}, "x"});
  ExpectRefused(Pack(kQwen, files, {"weight_packed"}), kDoesNotFit,
                {"other.layers.1.x.weight_packed", "both end in", "longer end"});
  EXPECT_TRUE(PackAgain(kQwen, {absl::StrCat(kStem, "weight_packed")}).ok());
  files["b.safetensors"].back().name = "layers.3.x.weight_packed";
  ExpectRefused(Pack(kQwen, files, {"weight_packed"}), kDoesNotFit, {"is of layer 3"});
  files = Nvfp4Files();
  files["a.safetensors"].push_back(
      {absl::StrCat(kStem, "tiny"), "U8", {rows, 4}, SomeBytes(3, rows * 4)});
  ExpectRefused(Pack(kQwen, files, {"ngram_embedding.tiny"}), kDoesNotFit,
                {"would have 4 bytes", "ngram_embedding.tiny (4)", "8..4096"});
  ExpectRefused(PackAgain(kQwen, {"ngram_embedding.weight_scale_2"}), kDoesNotFit, {"0 bytes"});
}

TEST_F(NamedRowsTest, NamesThatCannotBeAreRefused) {
  for (const auto& [names, why] : std::vector<std::pair<std::vector<std::string>, const char*>>{
           {{""}, "name of a tensor"},
           {{".weight"}, "name of a tensor"},
           {{"a.{rank}.b"}, "{layer} and {piece}"},
           {{"a.{piece}.{piece}"}, "each once"},
           {{"a", "a"}, "twice"},
           {std::vector<std::string>(kMaxNamedTensors + 1, "a"), "at most 8"}}) {
    const absl::Status status = RowNames::Parse(names, "--rows").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
  }
  const RowNames names = RowNames::Parse({"embed.{piece}.codes"}, "--rows").value();
  EXPECT_EQ(names.Find(0, "layers.1.embed.12.codes")->piece, 12u);
  EXPECT_EQ(names.Find(0, "layers.1.embed.12.codes")->before, "layers.1.");
  EXPECT_FALSE(names.Find(0, "layers.1.xembed.12.codes"));
  EXPECT_FALSE(names.Find(0, "embed.x.codes"));
  EXPECT_FALSE(names.Find(0, "embed.12.codes.more"));
  EXPECT_FALSE(names.Find(0, "vision_tower.embed.12.codes"));
  EXPECT_TRUE(names.IsBeside("layers.1.embed.scale"));
  EXPECT_TRUE(names.IsBeside("layers.1.embed.12.bias"));
  EXPECT_FALSE(names.IsBeside("layers.1.embed.norm.weight"));
  EXPECT_FALSE(names.IsBeside("layers.1.other.scale"));
}

// As a quantizer leaves them: "embed.weight" and, under that name, its scales.
TEST_F(NamedRowsTest, ATableIsNotBesideItself) {
  const RowNames names = RowNames::Parse({"embed.weight.absmax"}, "--rows").value();
  EXPECT_FALSE(names.IsBeside("layers.1.embed.weight"));
  EXPECT_FALSE(names.IsBeside("embed.weight"));
  EXPECT_TRUE(names.IsBeside("layers.1.embed.weight.quant_map"));
}

// A name without a dot tells no table: that of the tensor is meant which it finds, in every layer.
TEST_F(NamedRowsTest, WhatLiesBesideIsSaidOfANameWithoutADot) {
  ASSERT_TRUE(Pack(kQwen, Nvfp4Files(), {"weight_packed", "weight_scale"}).ok());
  EXPECT_THAT(notes_, AllOf(HasSubstr("weight_scale_2 (F32 [])"), Not(HasSubstr("norm.weight"))));
  ASSERT_TRUE(PackAgain(kQwen, {"weight_packed", "weight_scale", "weight_scale_2"}).ok());
  EXPECT_THAT(notes_, Not(HasSubstr("beside")));

  RowNames names = RowNames::Parse({"codes_{piece}", "absmax"}, "--rows").value();
  EXPECT_FALSE(names.TellTables());
  EXPECT_FALSE(names.IsBeside("layers.1.embed.scale"));
  TensorSource source;
  source.tensors = {{"layers.1.embed.codes_7", {}},
                    {"layers.2.embed.codes_7.absmax", {}},
                    {"layers.3.embed.other", {}},
                    {"absmax", {}}};
  names.LearnTables(source);
  for (const char* beside :
       {"layers.1.embed.scale", "layers.1.embed.9.bias", "layers.2.embed.codes_7.map", "scale"}) {
    EXPECT_TRUE(names.IsBeside(beside)) << beside;
  }
  for (const char* other : {"layers.1.embed", "layers.1.embed.norm.weight", "layers.3.embed.scale",
                            "layers.1.embedding.scale", "model.scale"}) {
    EXPECT_FALSE(names.IsBeside(other)) << other;
  }
  EXPECT_TRUE(RowNames::Parse({"embed.codes", "a.{piece}"}, "--rows")->TellTables());
}

// Wherever the others stand in the order of names, and whatever layer they are of.
TEST_F(NamedRowsTest, TheWholeNameMeansItsTensor) {
  const uint64_t rows = RowsOf(kQwen, 1);
  const std::string bytes = SomeBytes(1, rows * 80);
  Files files;
  for (const char* other : {"a.x.embed", "b.x.embed", "layers.3.x.embed", "z.x.embed"}) {
    files["model.safetensors"].push_back({other, "U8", {1}, "x"});
  }
  ExpectRefused(Pack(kQwen, files, {"x.embed"}), absl::StatusCode::kFailedPrecondition,
                {"a.x.embed", "b.x.embed", "both end in"});
  files["model.safetensors"].push_back({"x.embed", "U8", {rows, 80}, bytes});
  const absl::StatusOr<Manifest> packed = Pack(kQwen, files, {"x.embed"});
  ASSERT_TRUE(packed.ok()) << packed.status();
  EXPECT_TRUE(Rows(packed->layers[0]) == bytes);
}

// In one layer it leaves the other layers' tensors what they are.
TEST_F(NamedRowsTest, TheWholeNameMeansItsLayersTensorAlone) {
  Files files;
  std::map<uint32_t, std::string> expected;
  for (const auto& [layer, before] : {std::pair(1u, ""), std::pair(14u, "model.")}) {
    const uint64_t rows = RowsOf(kV41, layer);
    expected[layer] = SomeBytes(layer, rows * 256);
    files["model.safetensors"].push_back(
        {absl::StrCat(before, "layers.", layer, ".engram.embed.codes"),
         "U8",
         {rows, 256},
         expected[layer]});
  }
  files["model.safetensors"].push_back({"x.layers.1.engram.embed.codes", "U8", {1}, "x"});
  const std::vector<std::string> names = {"layers.{layer}.engram.embed.codes"};
  const absl::StatusOr<Manifest> packed = Pack(kV41, files, names, "codes");
  ASSERT_TRUE(packed.ok()) << packed.status();
  for (const LayerTableSpec& layer : packed->layers) {
    EXPECT_TRUE(Rows(layer) == expected[layer.layer]) << layer.layer;
  }
  files["model.safetensors"].push_back({"x.layers.14.engram.embed.codes", "U8", {1}, "x"});
  ExpectRefused(
      Pack(kV41, files, names, "codes"), absl::StatusCode::kFailedPrecondition,
      {"model.layers.14.engram.embed.codes", "x.layers.14.engram.embed.codes", "both end in"});
}

}  // namespace
}  // namespace engram
