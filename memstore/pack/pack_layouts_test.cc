// One table in every layout that checkpoints have: each packs to the same id, or is refused by
// name.
#include <algorithm>
#include <bit>
#include <filesystem>
#include <fstream>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"
#include "memstore/pack/pack_checkpoint.h"
#include "memstore/pack/testing/small_checkpoint.h"
#include "memstore/table/verify.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing_checkpoint::Files;
using testing_checkpoint::SomeBytes;
using testing_checkpoint::Tensor;
using testing_checkpoint::WriteCheckpoint;
using testing_checkpoint::WriteText;

constexpr char kV41Map[] = "tests/golden/deepseek_v41_token_map.i32";
constexpr uint64_t kRowsPerHead = 500;
constexpr char kV41[] = "deepseek-v4.1-flash";
constexpr char kQwen[] = "qwen4-exp";
constexpr char kLongCat[] = "longcat-flash-lite";
constexpr char kQwenStem[] = "model.language_model.layers.1.ple.ple_embedding.ngram_embedding.";

AddressScheme SchemeOf(absl::string_view family) {
  return Derive(**FindFamily(family), {kRowsPerHead, {}}).value();
}

// Rows [first, first + count) of a table whose rows are `row_bytes` wide and follow from `seed`;
// beyond `table_rows` they are padding.
std::string Rows(uint64_t seed, uint64_t first, uint64_t count, uint64_t row_bytes,
                 uint64_t table_rows) {
  std::string table = SomeBytes(seed, table_rows * row_bytes);
  table.resize(std::max(table_rows, first + count) * row_bytes, 'p');
  return table.substr(first * row_bytes, count * row_bytes);
}

class PackLayoutsTest : public testing::Test {
 protected:
  PackLayoutsTest() : dir_(fs::path(testing::TempDir()) / "pack_layouts_test") {
    fs::remove_all(dir_);
    fs::create_directories(Model());
  }
  ~PackLayoutsTest() override { fs::remove_all(dir_); }
  fs::path Model() const { return dir_ / "model"; }

  // The id of what is packed, or the message. What can be packed can be linked to, and is the same.
  std::string Pack(absl::string_view family, const fs::path& model) {
    fs::remove_all(dir_ / "set");
    notes_.clear();
    PackOptions options;
    options.output = dir_ / "set";
    options.rows_per_head = kRowsPerHead;
    if (family == kV41) options.token_map_file = kV41Map;
    options.on_note = [this](const std::string& note) {
      // None of these models has a configuration.
      if (!absl::StrContains(note, "config.json was not compared")) notes_ += note + "\n";
    };
    const absl::StatusOr<Manifest> packed = PackCheckpoint(**FindFamily(family), model, options);
    if (!packed.ok()) return std::string(packed.status().message());
    ExpectLinksToo(family, model, options, *packed);
    return packed->id;
  }
  void ExpectLinksToo(absl::string_view family, const fs::path& model, PackOptions options,
                      const Manifest& packed) {
    options.output = dir_ / "linked";
    options.on_note = nullptr;
    options.link = true;
    fs::remove_all(options.output);
    const absl::StatusOr<Manifest> linked = PackCheckpoint(**FindFamily(family), model, options);
    ASSERT_TRUE(linked.ok()) << linked.status();
    EXPECT_EQ(linked->text, packed.text);
    const absl::Status verified = VerifyTableSet(options.output, {}).status();
    EXPECT_TRUE(verified.ok()) << verified;
  }
  std::string Pack(absl::string_view family, const Files& files, bool index = true) {
    fs::remove_all(Model());
    WriteCheckpoint(Model(), files);
    if (!index) fs::remove(Model() / "model.safetensors.index.json");
    return Pack(family, Model());
  }
  void ExpectRefused(const std::string& said, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) EXPECT_THAT(said, HasSubstr(part));
    EXPECT_FALSE(fs::exists(dir_ / "set"));
  }

  fs::path dir_;
  std::string notes_;
};

// The tables of V4.1 under the names `weight` and `scale` ("{}" is the layer).
Files V41Files(const std::string& weight, const std::string& scale, const char* scale_dtype) {
  Files files;
  for (const LayerAddressing& layer : SchemeOf(kV41).layers) {
    const auto name = [&](std::string pattern) {
      return pattern.replace(pattern.find("{}"), 2, absl::StrCat(layer.layer));
    };
    const uint64_t rows = layer.Rows();
    files[absl::StrCat("model-", layer.layer, ".safetensors")] = {
        {name(scale), scale_dtype, {rows, 8}, SomeBytes(layer.layer + 100, rows * 8)},
        {name(weight), "F8_E4M3", {rows, 256}, SomeBytes(layer.layer, rows * 256)}};
  }
  return files;
}
Files V41Files() {
  return V41Files("layers.{}.engram.embed.weight", "layers.{}.engram.embed.scale", "F8_E8M0");
}

// Qwen's table in pieces of these lengths, named by `piece` ("{}" is the number), over `files`.
Files QwenFiles(const std::vector<uint64_t>& lengths, const std::string& piece = "shard_{}.weight",
                size_t files = 3) {
  const uint64_t table_rows = SchemeOf(kQwen).layers[0].Rows();
  Files out;
  uint64_t first = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    std::string name = kQwenStem + piece;
    if (const size_t at = name.find("{}"); at != std::string::npos) {
      name.replace(at, 2, absl::StrCat(i));
    }
    out[absl::StrCat("model-", i % files, ".safetensors")].push_back(
        {name, "BF16", {lengths[i], 160}, Rows(7, first, lengths[i], 320, table_rows)});
    first += lengths[i];
  }
  return out;
}

std::vector<uint64_t> EqualLengths(uint64_t rows, uint64_t length) {
  std::vector<uint64_t> lengths(rows / length, length);
  if (rows % length > 0) lengths.push_back(rows % length);
  return lengths;
}

TEST_F(PackLayoutsTest, NamesOfV41) {
  const std::string id = Pack(kV41, V41Files());
  ASSERT_EQ(id.size(), 64u) << id;
  EXPECT_EQ(notes_, "");
  for (const char* prefix : {"model.", "model.language_model.", "x.y."}) {
    EXPECT_EQ(Pack(kV41, V41Files(absl::StrCat(prefix, "layers.{}.engram.embed.weight"),
                                  absl::StrCat(prefix, "layers.{}.engram.embed.scale"), "F8_E8M0")),
              id)
        << prefix;
  }
  // As an engine dumps its parameters, in a type that every tool knows.
  EXPECT_EQ(Pack(kV41, V41Files("model.layers.{}.engram.embed_tokens.weight",
                                "model.layers.{}.engram.embed_tokens.weight_scale_inv", "U8")),
            id);
  EXPECT_THAT(notes_, HasSubstr("U8"));
  EXPECT_EQ(
      Pack(kV41, V41Files("layers.{}.engram.embed.weight", "layers.{}.engram.embed.scale", "I8"),
           /*index=*/false),
      id);
}

TEST_F(PackLayoutsTest, PiecesOfV41AreCutEachByItself) {
  const std::string id = Pack(kV41, V41Files());
  Files files;
  for (const LayerAddressing& layer : SchemeOf(kV41).layers) {
    const std::string stem = absl::StrCat("layers.", layer.layer, ".engram.embed.");
    const uint64_t rows = layer.Rows();
    for (const bool scale : {false, true}) {
      const uint64_t width = scale ? 8 : 256, seed = layer.layer + (scale ? 100 : 0);
      uint64_t first = 0;
      int piece = 0;
      for (const uint64_t length : EqualLengths(rows, scale ? 1777 : 3001)) {
        files["one.safetensors"].push_back(
            {absl::StrCat(stem, "shards.", piece++, scale ? ".scale" : ".weight"),
             scale ? "F8_E8M0" : "F8_E4M3",
             {length, width},
             Rows(seed, first, length, width, rows)});
        first += length;
      }
    }
  }
  EXPECT_EQ(Pack(kV41, files, /*index=*/false), id);
}

TEST_F(PackLayoutsTest, PiecesOfQwen) {
  const uint64_t rows = SchemeOf(kQwen).layers[0].Rows();
  const std::string id = Pack(kQwen, QwenFiles({rows}));
  ASSERT_EQ(id.size(), 64u) << id;
  EXPECT_EQ(Pack(kQwen, QwenFiles({rows}, "weight")), id);
  for (const uint64_t length : {uint64_t{64}, uint64_t{1000}, rows - 1}) {
    for (const char* piece : {"shard_{}.weight", "shards.{}.weight", "shards.{}", "shard_{}"}) {
      EXPECT_EQ(Pack(kQwen, QwenFiles(EqualLengths(rows, length), piece)), id) << piece << length;
    }
    EXPECT_EQ(Pack(kQwen, QwenFiles(EqualLengths(rows, length)), /*index=*/false), id) << length;
  }
  EXPECT_EQ(notes_, "");
  // Padded behind the last row, by a multiple, or by whole pieces of nothing.
  std::vector<uint64_t> padded = EqualLengths((rows + 511) / 512 * 512, 512);
  EXPECT_EQ(Pack(kQwen, QwenFiles(padded)), id);
  EXPECT_THAT(notes_, HasSubstr(absl::StrCat("last ", padded.size() * 512 - rows, " rows")));
  EXPECT_EQ(Pack(kQwen, QwenFiles({rows, 0, 0})), id);
  // A piece that is short in the middle, though all rows are there.
  padded = EqualLengths(rows, 1000);
  --padded[2];
  ++padded.back();
  ExpectRefused(Pack(kQwen, QwenFiles(padded)),
                {"shard_2.weight", "model-2.safetensors", "[999, "});
}

TEST_F(PackLayoutsTest, NamesTheMissingPieceAndItsFile) {
  const std::vector<uint64_t> lengths = EqualLengths(SchemeOf(kQwen).layers[0].Rows(), 1000);
  const std::string count = absl::StrCat(lengths.size());
  Files files = QwenFiles(lengths);
  files["model-1.safetensors"].erase(files["model-1.safetensors"].begin() + 1);
  ExpectRefused(Pack(kQwen, files), {"shard_4.weight", absl::StrCat(lengths.size() - 1, " of the "),
                                     count + " pieces"});
  fs::remove_all(Model());
  WriteCheckpoint(Model(), QwenFiles(lengths));
  fs::remove(Model() / "model-1.safetensors");
  ExpectRefused(Pack(kQwen, Model()), {"model-1.safetensors", "shard_1.weight", "download it"});
  // Nothing of the table at all.
  ExpectRefused(Pack(kQwen, {{"a.safetensors", {{"other", "U8", {1}, "x"}}}}, /*index=*/false),
                {"ngram_embedding.shard_{i}.weight", "1 file"});
}

TEST_F(PackLayoutsTest, RefusesPiecesThatArePaddedOneByOne) {
  const uint64_t rows = SchemeOf(kQwen).layers[0].Rows(), length = (rows / 4 + 64) / 64 * 64;
  Files files = QwenFiles({length, length, length, length});
  const std::string packed = Pack(kQwen, files);
  EXPECT_EQ(packed, Pack(kQwen, QwenFiles({rows})));
  for (auto& [file, tensors] : files) {
    for (Tensor& tensor : tensors) {
      if (tensor.shape.size() < 2) continue;
      std::fill(tensor.bytes.end() - tensor.bytes.size() / length, tensor.bytes.end(), '\0');
    }
  }
  ExpectRefused(Pack(kQwen, files), {"padded by itself", "3 of the 3 pieces", "cut the padding"});
}

TEST_F(PackLayoutsTest, RefusesTensorsUnderTheTableThatAreNotKnown) {
  Files files = QwenFiles({SchemeOf(kQwen).layers[0].Rows()});
  files["other.safetensors"] = {{absl::StrCat(kQwenStem, "shard_0.bias"), "U8", {1}, "x"}};
  ExpectRefused(Pack(kQwen, files),
                {"shard_0.bias", "belongs to the table", "with --rows and --encoding"});
}

TEST_F(PackLayoutsTest, RefusesTwoTablesThatCouldBeMeant) {
  const Files one = V41Files();
  const std::pair<std::string, std::string> others[] = {
      {"ema.layers.{}.engram.embed.weight", "layers.{}.engram.embed.scale"},
      {"layers.{}.engram.embed_tokens.weight", "layers.{}.engram.embed.scale"},
      {"layers.{}.engram.embed.shard_0.weight", "layers.{}.engram.embed.scale"},
      {"layers.{}.engram.embed.weight", "layers.{}.engram.embed.weight_scale_inv"}};
  for (const auto& [weight, scale] : others) {
    Files files = one;
    for (const auto& [file, tensors] : V41Files(weight, scale, "F8_E8M0")) {
      for (const Tensor& tensor : tensors) {
        bool there = false;
        for (const Tensor& other : one.at(file)) there |= other.name == tensor.name;
        if (!there) files["other-" + file].push_back(tensor);
      }
    }
    ExpectRefused(Pack(kV41, files), {"layers.1.engram.embed.", "can both be the table"});
  }
  Files files = QwenFiles({1000});
  files["other.safetensors"] = {{absl::StrCat(kQwenStem, "shard_00.weight"), "U8", {1}, "x"}};
  ExpectRefused(Pack(kQwen, files), {"shard_0.weight", "shard_00.weight"});
}

TEST_F(PackLayoutsTest, RefusesWhatItWouldLeaveOut) {
  Files files = V41Files();
  files["more.safetensors"] = {{"layers.20.engram.embed.weight", "U8", {1}, "x"}};
  ExpectRefused(Pack(kV41, files), {"layers.20.engram.embed.weight", "layer 20", "1, 14"});
  files = V41Files();
  files["more.safetensors"] = {{"layers.1.engram.embed.weight_scale_2", "F32", {}, "1234"}};
  ExpectRefused(Pack(kV41, files), {"layers.1.engram.embed.weight_scale_2"});
}

// A tensor-parallel export: one name, a file a rank.
TEST_F(PackLayoutsTest, PartsOfRanks) {
  const std::string id = Pack(kV41, V41Files());
  for (const bool by_columns : {true, false}) {
    Files files;
    for (const LayerAddressing& layer : SchemeOf(kV41).layers) {
      const std::string stem = absl::StrCat("layers.", layer.layer, ".engram.embed_tokens.weight");
      uint64_t first = 0;
      for (int rank = 0; rank < 4; ++rank) {
        uint64_t rows = (layer.Rows() + 3) / 4;
        if (by_columns) {
          rows = 0;
          for (int column = rank * 6; column < rank * 6 + 6; ++column) rows += layer.moduli[column];
        }
        rows = std::min(rows, layer.Rows() - first);
        std::vector<Tensor>& tensors =
            files[absl::StrCat("model-rank-", rank, "-part-0.safetensors")];
        tensors.push_back(
            {stem, "F8_E4M3", {rows, 256}, Rows(layer.layer, first, rows, 256, layer.Rows())});
        tensors.push_back({stem + "_scale_inv",
                           "U8",
                           {rows, 8},
                           Rows(layer.layer + 100, first, rows, 8, layer.Rows())});
        first += rows;
      }
    }
    EXPECT_EQ(Pack(kV41, files, /*index=*/false), id) << by_columns;
    files.erase("model-rank-3-part-0.safetensors");
    ExpectRefused(Pack(kV41, files, /*index=*/false),
                  {"embed_tokens.weight", "is the file of a rank missing"});
  }
}

TEST_F(PackLayoutsTest, LongCatInOneTensorOrItsColumns) {
  const LayerAddressing layer = SchemeOf(kLongCat).layers[0];
  Files columns;
  std::string all;
  for (size_t i = 0; i < layer.moduli.size(); ++i) {
    const std::string bytes = SomeBytes(i, layer.moduli[i] * 512);
    columns["a.safetensors"].push_back(
        {absl::StrCat("model.ngram_embeddings.embedders.", i, ".weight"),
         "BF16",
         {layer.moduli[i], 256},
         bytes});
    all += bytes;
  }
  const std::string id = Pack(kLongCat, columns);
  ASSERT_EQ(id.size(), 64u) << id;
  EXPECT_EQ(
      Pack(kLongCat, {{"a.safetensors",
                       {{"ngram_embeddings.embedders.weight", "BF16", {layer.Rows(), 256}, all}}}}),
      id);
  // Each column cut between two ranks.
  Files ranks;
  for (const Tensor& tensor : columns["a.safetensors"]) {
    const uint64_t half = (tensor.shape[0] + 1) / 2;
    ranks["model0-mp2.safetensors"].push_back(
        {tensor.name, "BF16", {half, 256}, tensor.bytes.substr(0, half * 512)});
    ranks["model1-mp2.safetensors"].push_back(
        {tensor.name, "BF16", {tensor.shape[0] - half, 256}, tensor.bytes.substr(half * 512)});
  }
  EXPECT_EQ(Pack(kLongCat, ranks, /*index=*/false), id);
  columns["a.safetensors"].pop_back();
  ExpectRefused(Pack(kLongCat, columns), {"embedders.11.weight", "11 columns of 12"});
}

// The scale of a whole FP8 table, in the types and shapes that it is met in.
TEST_F(PackLayoutsTest, GlobalScales) {
  const uint64_t rows = SchemeOf(kQwen).layers[0].Rows();
  const auto pack = [&](const std::vector<Tensor>& scales) {
    Files files = {
        {"a.safetensors",
         {{absl::StrCat(kQwenStem, "weight"), "F8_E4M3", {rows, 160}, SomeBytes(1, rows * 160)}}}};
    for (Tensor scale : scales) {
      scale.name = kQwenStem + scale.name;
      files["a.safetensors"].push_back(scale);
    }
    return Pack(kQwen, files);
  };
  // 2^-5.
  const std::string f32("\0\0\0\x3d", 4), bf16("\0\x3d", 2), f16("\0\x28", 2);
  const std::string id = pack({{"weight_scale", "F32", {}, f32}});
  ASSERT_EQ(id.size(), 64u) << id;
  for (const std::vector<uint64_t>& shape :
       std::vector<std::vector<uint64_t>>{{}, {1}, {1, 1}, {1, 1, 1}}) {
    EXPECT_EQ(pack({{"weight_scale", "F32", shape, f32}}), id);
    EXPECT_EQ(pack({{"weight_scale", "BF16", shape, bf16}}), id);
    EXPECT_EQ(pack({{"weight_scale", "F16", shape, f16}}), id);
  }
  EXPECT_EQ(pack({{"weight_scale_inv", "F32", {}, f32}}), id);
  EXPECT_EQ(
      pack({{"shard_0.weight_scale", "F32", {}, f32}, {"shard_1.weight_scale", "F32", {}, f32}}),
      id);
  // The least of F16, 2^-24, is a value like others; zero, infinities and negative ones are none.
  EXPECT_EQ(pack({{"weight_scale", "F16", {}, std::string("\1\0", 2)}}),
            pack({{"weight_scale", "F32", {}, std::string("\0\0\x80\x33", 4)}}));
  for (const char* bits : {"\0\0", "\0\x7c", "\1\x7c", "\0\xa8"}) {
    ExpectRefused(pack({{"weight_scale", "F16", {}, std::string(bits, 2)}}), {"weight_scale"});
  }
  ExpectRefused(pack({{"weight_scale", "F64", {}, "12345678"}}), {"F64", "one value"});
  ExpectRefused(pack({{"weight_scale", "F32", {2}, f32 + f32}}), {"F32 [2]", "one value"});
  ExpectRefused(pack({{"shard_0.weight_scale", "F32", {}, f32},
                      {"shard_1.weight_scale", "F32", {}, std::string("\0\0\0\x3e", 4)}}),
                {"shard_1.weight_scale", "0.03125 and 0.125"});
}

// Of pieces that have one each, one that is missing may be another.
TEST_F(PackLayoutsTest, RefusesPiecesOfWhichSomeHaveNoScale) {
  const uint64_t rows = SchemeOf(kQwen).layers[0].Rows(), piece = (rows + 2) / 3;
  const std::string f32("\0\0\0\x3d", 4);
  Files files;
  for (const uint64_t number : {0, 1, 2}) {
    const uint64_t count = number < 2 ? piece : rows - 2 * piece;
    const std::string name = absl::StrCat(kQwenStem, "shard_", number, ".weight");
    files["a.safetensors"].push_back(
        {name, "F8_E4M3", {count, 160}, SomeBytes(number, count * 160)});
    if (number < 2) files["a.safetensors"].push_back({name + "_scale", "F32", {}, f32});
  }
  ExpectRefused(Pack(kQwen, files), {"3 pieces of rows and 2 scales"});
}

TEST_F(PackLayoutsTest, WarnsOfHolesAndOfBytesOfNoTensor) {
  Files files = V41Files();
  const std::string id = Pack(kV41, files);
  const fs::path file = Model() / "model-1.safetensors";
  const uint64_t bytes = fs::file_size(file);
  std::ofstream(file, std::ios::app | std::ios::binary) << std::string(100, 'x');
  EXPECT_EQ(Pack(kV41, Model()), id);
  EXPECT_THAT(notes_, HasSubstr(absl::StrCat("warning: ", file.string(),
                                             " has bytes that belong to "
                                             "no tensor, at ",
                                             bytes, "..", bytes + 99)));
  // A download that has begun at the front alone.
  fs::resize_file(file, 1u << 19);
  fs::resize_file(file, bytes);
  EXPECT_EQ(Pack(kV41, Model()).size(), 64u);
  EXPECT_THAT(notes_, HasSubstr("holes in the rows of layers.1.engram.embed.weight"));
  EXPECT_THAT(notes_, HasSubstr(absl::StrCat("..", bytes - 1)));
}

TEST_F(PackLayoutsTest, ComparesABlobWithItsName) {
  const std::string id = Pack(kV41, V41Files());
  const fs::path snapshot = dir_ / "cache/snapshots/r", blobs = dir_ / "cache/blobs";
  fs::create_directories(snapshot);
  fs::create_directories(blobs);
  fs::copy(Model() / "model.safetensors.index.json", snapshot);
  fs::path damaged;
  for (const char* name : {"model-1.safetensors", "model-14.safetensors"}) {
    std::ifstream file(Model() / name, std::ios::binary);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    damaged = blobs / Sha256Hex(text);
    WriteText(damaged, text);
    fs::create_symlink(fs::path("../../blobs") / damaged.filename(), snapshot / name);
  }
  EXPECT_EQ(Pack(kV41, snapshot), id);
  std::fstream file(damaged, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(1'000'000);
  file << "BAD";
  file.close();
  ExpectRefused(Pack(kV41, snapshot), {damaged, "SHA-256"});
}

// What enters the id is compared as much as rows are.
TEST_F(PackLayoutsTest, ComparesTheBlobOfAScaleWithItsName) {
  const uint64_t rows = SchemeOf(kQwen).layers[0].Rows();
  WriteCheckpoint(
      Model(),
      {{"a.safetensors",
        {{absl::StrCat(kQwenStem, "weight"), "F8_E4M3", {rows, 160}, SomeBytes(1, rows * 160)}}},
       {"b.safetensors",
        {{absl::StrCat(kQwenStem, "weight_scale"), "F32", {}, std::string("\0\0\0\x3d", 4)}}}});
  const fs::path blobs = dir_ / "blobs";
  fs::create_directories(blobs);
  fs::path scale;
  for (const char* name : {"a.safetensors", "b.safetensors"}) {
    std::ifstream file(Model() / name, std::ios::binary);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    scale = blobs / Sha256Hex(text);
    WriteText(scale, text);
    fs::remove(Model() / name);
    fs::create_symlink(scale, Model() / name);
  }
  ASSERT_EQ(Pack(kQwen, Model()).size(), 64u);
  std::fstream file(scale, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end);
  file << "\x3e";
  file.close();
  ExpectRefused(Pack(kQwen, Model()), {scale, "SHA-256"});
}

TEST_F(PackLayoutsTest, AsksForTheDirectoryOfACheckpoint) {
  WriteCheckpoint(Model(), V41Files());
  for (const char* name : {"model-1.safetensors", "model.safetensors.index.json"}) {
    ExpectRefused(Pack(kV41, Model() / name), {"--checkpoint " + Model().string()});
  }
}

}  // namespace
}  // namespace engram
