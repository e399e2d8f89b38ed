#include "memstore/pack/pack_checkpoint.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/pack/testing/packed_rows.h"
#include "memstore/pack/testing/small_checkpoint.h"
#include "memstore/table/verify.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using testing_checkpoint::Files;
using testing_checkpoint::PackedRows;
using testing_checkpoint::SomeBytes;
using testing_checkpoint::Tensor;
using testing_checkpoint::WriteCheckpoint;
using testing_checkpoint::WriteText;

constexpr char kV41Map[] = "tests/golden/deepseek_v41_token_map.i32";
constexpr char kV3Map[] = "tests/golden/deepseek_v3_token_map.i32";
constexpr uint64_t kRowsPerHead = 500;

class PackCheckpointTest : public testing::Test {
 protected:
  PackCheckpointTest() : dir_(fs::path(testing::TempDir()) / "pack_checkpoint_test") {
    fs::remove_all(dir_);
    fs::create_directories(Model());
  }
  ~PackCheckpointTest() override { fs::remove_all(dir_); }
  fs::path Model() const { return dir_ / "model"; }
  fs::path Set() const { return dir_ / "set"; }

  absl::StatusOr<Manifest> Pack(absl::string_view family, const std::string& token_map = "") {
    fs::remove_all(Set());
    PackOptions options;
    options.output = Set();
    options.rows_per_head = kRowsPerHead;
    options.token_map_file = token_map;
    options.writer.shard_bytes = 1u << 20;
    return PackCheckpoint(**FindFamily(family), Model(), options);
  }
  absl::StatusOr<Manifest> PackV41() { return Pack("deepseek-v4.1-flash", kV41Map); }

  std::string Rows(const LayerTableSpec& layer) const { return PackedRows(Set(), layer); }
  // The set verifies, nothing else is left, and the refused leave nothing.
  void ExpectWhole() const { EXPECT_TRUE(VerifyTableSet(Set(), {}).ok()); }
  void ExpectRefused(const absl::StatusOr<Manifest>& packed, std::vector<std::string> named) const {
    EXPECT_FALSE(packed.ok());
    for (const std::string& name : named) {
      EXPECT_THAT(std::string(packed.status().message()), HasSubstr(name));
    }
    EXPECT_EQ(std::distance(fs::directory_iterator(dir_), {}), 1);  // the model
  }
  fs::path dir_;
};

uint64_t RowsOf(absl::string_view family, uint32_t layer) {
  return Derive(**FindFamily(family), {kRowsPerHead, {}}).value().FindLayer(layer)->Rows();
}

std::string V41Weight(int layer) { return absl::StrCat("layers.", layer, ".engram.embed.weight"); }
std::string V41Scale(int layer) { return absl::StrCat("layers.", layer, ".engram.embed.scale"); }

// As released: one file a layer, other tensors beside, files without tables not there.
Files V41Files() {
  Files files;
  for (const int layer : {1, 14}) {
    const uint64_t rows = RowsOf("deepseek-v4.1-flash", layer);
    files[absl::StrCat("model-", layer, ".safetensors")] = {
        {absl::StrCat("layers.", layer, ".engram.wkv.weight"), "U8", {3}, "abc"},
        {V41Scale(layer), "F8_E8M0", {rows, 8}, SomeBytes(layer + 100, rows * 8)},
        {V41Weight(layer), "F8_E4M3", {rows, 256}, SomeBytes(layer, rows * 256)}};
  }
  return files;
}

void WriteV41(const fs::path& model, const Files& files) {
  WriteCheckpoint(model, files, {{"layers.0.attn.weight", "model-00001-of-00048.safetensors"}});
}

TEST_F(PackCheckpointTest, InterleavesWeightsAndScalesOfV41) {
  WriteV41(Model(), V41Files());
  const absl::StatusOr<Manifest> manifest = PackV41();
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  ExpectWhole();
  for (const LayerTableSpec& layer : manifest->layers) {
    EXPECT_EQ(layer.encoding.kind, RowEncodingKind::kFp8E4m3Ue8m0Block32);
    EXPECT_EQ(layer.row_bytes, 264u);
    EXPECT_FALSE(layer.synthetic);
    EXPECT_GE(layer.shards.size(), 2u);
    const std::string rows = Rows(layer);
    const std::string weights = SomeBytes(layer.layer, layer.rows * 256);
    const std::string scales = SomeBytes(layer.layer + 100, layer.rows * 8);
    ASSERT_EQ(rows.size(), layer.rows * 264);
    for (uint64_t row = 0; row < layer.rows; ++row) {
      ASSERT_EQ(rows.compare(row * 264, 256, weights, row * 256, 256), 0) << row;
      ASSERT_EQ(rows.compare(row * 264 + 256, 8, scales, row * 8, 8), 0) << row;
    }
  }
  EXPECT_TRUE(fs::exists(Set() / kTokenMapFile));
}

// Killed when it is halfway through. What is finished is of the source as it was.
TEST_F(PackCheckpointTest, GoesOnAfterAKillWhereTheSourceIsTheSame) {
  const Family& family = **FindFamily("deepseek-v4.1-flash");
  std::string notes;
  PackOptions options;
  options.output = Set();
  options.rows_per_head = kRowsPerHead;
  options.token_map_file = kV41Map;
  options.writer.shard_bytes = 1u << 20;
  options.on_note = [&](const std::string& line) { notes += line; };
  for (const bool changes : {false, true}) {
    fs::remove_all(Set());
    notes.clear();
    Files files = V41Files();
    WriteV41(Model(), files);
    const pid_t child = fork();
    if (child == 0) {
      options.on_progress = [](uint64_t done, uint64_t total) {
        if (done > total / 2) kill(getpid(), SIGKILL);
      };
      (void)PackCheckpoint(family, Model(), options).ok();
      _exit(0);
    }
    int ended;
    ASSERT_EQ(waitpid(child, &ended, 0), child);
    ASSERT_TRUE(WIFSIGNALED(ended));
    if (changes) {
      for (auto& [name, tensors] : files) tensors[2].bytes[0] ^= 1;
      WriteV41(Model(), files);
    }
    const absl::StatusOr<Manifest> manifest = PackCheckpoint(family, Model(), options);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    EXPECT_THAT(notes,
                HasSubstr(changes ? ".safetensors: it was written at another time): begun anew"
                                  : "goes on with "));
    ExpectWhole();
    for (const LayerTableSpec& layer : manifest->layers) {
      const std::string name = absl::StrCat("model-", layer.layer, ".safetensors");
      EXPECT_EQ(Rows(layer)[0], files[name][2].bytes[0]);
    }
  }
}

TEST_F(PackCheckpointTest, PacksEveryPlainDtype) {
  const std::tuple<const char*, uint64_t, RowEncodingKind> dtypes[] = {
      {"BF16", 2, RowEncodingKind::kBf16},
      {"F16", 2, RowEncodingKind::kFp16},
      {"F32", 4, RowEncodingKind::kFp32}};
  for (const auto& [dtype, bytes, kind] : dtypes) {
    std::vector<Tensor> tensors;
    for (const uint32_t layer : {1u, 15u}) {
      const uint64_t rows = RowsOf("engram-demo-v1", layer);
      tensors.push_back(
          {absl::StrCat("layers.", layer, ".engram.multi_head_embedding.embedding.weight"),
           dtype,
           {rows, 64},
           SomeBytes(layer, rows * 64 * bytes)});
    }
    WriteText(Model() / "model.safetensors", testing_checkpoint::FileText(tensors));
    const absl::StatusOr<Manifest> manifest = Pack("engram-demo-v1", kV3Map);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    ExpectWhole();
    EXPECT_EQ(manifest->layers[1].encoding.kind, kind);
    EXPECT_EQ(Rows(manifest->layers[0]), tensors[0].bytes);
    EXPECT_EQ(Rows(manifest->layers[1]), tensors[1].bytes);
  }
}

constexpr char kQwenStem[] = "model.language_model.layers.1.ple.ple_embedding.ngram_embedding.";

// Pieces of equal size over a few files; padding rows last.
Files QwenFiles(uint64_t pieces, const char* dtype, uint64_t value_bytes, std::string* rows) {
  const uint64_t table_rows = RowsOf("qwen4-exp", 1);
  const uint64_t piece_rows = (table_rows + pieces - 1) / pieces;
  Files files;
  for (uint64_t piece = 0; piece < pieces; ++piece) {
    const std::string bytes = SomeBytes(piece, piece_rows * 160 * value_bytes);
    *rows += bytes;
    files[absl::StrCat("model-", piece % 3, ".safetensors")].push_back(
        {absl::StrCat(kQwenStem, "shard_", piece, ".weight"), dtype, {piece_rows, 160}, bytes});
  }
  rows->resize(table_rows * 160 * value_bytes);
  return files;
}

TEST_F(PackCheckpointTest, JoinsThePiecesOfQwenAndDropsThePadding) {
  for (const uint64_t pieces : {1u, 7u, 128u}) {
    std::string rows;
    fs::remove_all(Model());
    WriteCheckpoint(Model(), QwenFiles(pieces, "BF16", 2, &rows));
    const absl::StatusOr<Manifest> manifest = Pack("qwen4-exp");
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    ExpectWhole();
    EXPECT_EQ(manifest->layers[0].row_bytes, 320u);
    EXPECT_EQ(Rows(manifest->layers[0]), rows);
  }
}

TEST_F(PackCheckpointTest, KeepsTheGlobalScaleOfQwenFp8) {
  const std::tuple<const char*, std::vector<uint64_t>, std::string> scales[] = {
      {"F32", {1}, std::string("\0\0\0\x3d", 4)}, {"BF16", {}, std::string("\0\x3d", 2)}};  // 2^-5
  for (const auto& [dtype, shape, bytes] : scales) {
    std::string rows;
    Files files = QwenFiles(4, "F8_E4M3", 1, &rows);
    files["model-0.safetensors"].push_back(
        {absl::StrCat(kQwenStem, "weight_scale"), dtype, shape, bytes});
    WriteCheckpoint(Model(), files);
    const absl::StatusOr<Manifest> manifest = Pack("qwen4-exp");
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    EXPECT_EQ(manifest->layers[0].encoding.kind, RowEncodingKind::kFp8E4m3);
    EXPECT_EQ(manifest->layers[0].encoding.global_scale, 0.03125f);
    EXPECT_EQ(manifest->layers[0].row_bytes, 160u);
    EXPECT_EQ(Rows(manifest->layers[0]), rows);
    EXPECT_EQ(LoadManifest(Set()).value().layers[0].encoding.global_scale, 0.03125f);
  }
}

TEST_F(PackCheckpointTest, RefusesAScaleThatIsNone) {
  const std::tuple<const char*, std::vector<uint64_t>, std::string> scales[] = {
      {"F32", {1}, std::string(4, '\0')},                    // zero
      {"F32", {1}, std::string("\0\0\xc0\x7f", 4)},          // NaN
      {"F32", {1}, std::string("\0\0\0\xbd", 4)},            // negative
      {"F32", {2}, std::string("\0\0\0\x3d\0\0\0\x3d", 8)},  // two
      {"U8", {1}, "x"}};
  for (const auto& [dtype, shape, bytes] : scales) {
    std::string rows;
    Files files = QwenFiles(4, "F8_E4M3", 1, &rows);
    files["model-0.safetensors"].push_back(
        {absl::StrCat(kQwenStem, "weight_scale"), dtype, shape, bytes});
    WriteCheckpoint(Model(), files);
    ExpectRefused(Pack("qwen4-exp"), {"weight_scale", "model-0.safetensors", "expected"});
  }
  std::string rows;
  fs::remove_all(Model());
  WriteCheckpoint(Model(), QwenFiles(4, "F8_E4M3", 1, &rows));
  ExpectRefused(Pack("qwen4-exp"), {"shard_0.weight", "weight_scale", "lacks"});
}

TEST_F(PackCheckpointTest, RefusesPiecesThatDoNotAddUp) {
  std::string rows;
  Files files = QwenFiles(6, "BF16", 2, &rows);
  for (Tensor& tensor : files["model-1.safetensors"]) {
    if (!absl::StrContains(tensor.name, "shard_4.")) continue;
    tensor.shape[0] += 1;
    tensor.bytes += std::string(320, 'x');
  }
  WriteCheckpoint(Model(), files);
  ExpectRefused(Pack("qwen4-exp"), {"shard_4.weight", "model-1.safetensors", "expected"});
  fs::remove_all(Model());
  files = QwenFiles(6, "BF16", 2, &rows);
  files["model-2.safetensors"].pop_back();  // the last one, number 5: five pieces are too few rows
  WriteCheckpoint(Model(), files);
  ExpectRefused(Pack("qwen4-exp"), {"lacks the tensor", "shard_5.weight", "--rows-per-head"});
  fs::remove_all(Model());
  files = QwenFiles(6, "BF16", 2, &rows);
  files["model-2.safetensors"].erase(files["model-2.safetensors"].begin());
  WriteCheckpoint(Model(), files);
  ExpectRefused(Pack("qwen4-exp"), {"lacks the tensor", "shard_2.weight"});
}

TEST_F(PackCheckpointTest, JoinsTheColumnsOfLongCat) {
  const AddressScheme scheme =
      Derive(**FindFamily("longcat-flash-lite"), {kRowsPerHead, {}}).value();
  Files files;
  std::string rows;
  for (uint32_t column = 0; column < scheme.Columns(); ++column) {
    const uint64_t column_rows = scheme.layers[0].moduli[column];
    const std::string bytes = SomeBytes(column, column_rows * 512);
    rows += bytes;
    files[column < 5 ? "a.safetensors" : "b.safetensors"].push_back(
        {absl::StrCat("model.ngram_embeddings.embedders.", column, ".weight"),
         "BF16",
         {column_rows, 256},
         bytes});
  }
  WriteCheckpoint(Model(), files);
  const absl::StatusOr<Manifest> manifest = Pack("longcat-flash-lite");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  ExpectWhole();
  EXPECT_EQ(Rows(manifest->layers[0]), rows);
  std::swap(files["a.safetensors"][0].name, files["a.safetensors"][1].name);
  WriteCheckpoint(Model(), files);
  ExpectRefused(Pack("longcat-flash-lite"), {"embedders.0.weight", "a.safetensors", "expected"});
}

struct Spoilt {
  const char* what;
  void (*spoil)(Tensor& tensor);
  std::string message;
};

// Of the weight and of the scale: each mismatch is refused, naming tensor, file, found and
// expected.
TEST_F(PackCheckpointTest, RefusesWhatDoesNotFitNamingTensorAndFile) {
  const Spoilt spoilt[] = {
      {"dtype", [](Tensor& t) { t.dtype = "F8_E5M2"; }, "F8_E5M2 ["},
      {"row fewer",
       [](Tensor& t) {
         t.shape[0] -= 1;
         t.bytes.resize(t.shape[0] * t.shape[1]);
       },
       "--rows-per-head"},
      {"width",
       [](Tensor& t) {
         t.shape[1] /= 2;
         t.bytes.resize(t.shape[0] * t.shape[1]);
       },
       "expected"},
      {"rank", [](Tensor& t) { t.shape.push_back(1); }, "expected"},
      {"transposed", [](Tensor& t) { std::swap(t.shape[0], t.shape[1]); }, "expected"},
      {"size", [](Tensor& t) { t.bytes.pop_back(); }, "data_offsets"},
  };
  for (const Spoilt& bad : spoilt) {
    for (const size_t tensor : {1u, 2u}) {
      SCOPED_TRACE(bad.what);
      Files files = V41Files();
      Tensor& t = files["model-14.safetensors"][tensor];
      bad.spoil(t);
      WriteV41(Model(), files);
      ExpectRefused(PackV41(), {t.name, Model() / "model-14.safetensors", bad.message});
    }
  }
}

TEST_F(PackCheckpointTest, RefusesWhatIsMissingOrCutOff) {
  Files files = V41Files();
  files["model-14.safetensors"].erase(files["model-14.safetensors"].begin() + 1);
  WriteV41(Model(), files);
  ExpectRefused(PackV41(), {V41Weight(14), "lacks"});
  files = V41Files();
  files["model-1.safetensors"].pop_back();
  WriteV41(Model(), files);
  ExpectRefused(PackV41(), {"lacks the tensor", V41Weight(1)});
  WriteV41(Model(), V41Files());
  fs::remove(Model() / "model-14.safetensors");
  ExpectRefused(PackV41(), {"model-14.safetensors", "missing"});
  WriteV41(Model(), V41Files());
  fs::resize_file(Model() / "model-1.safetensors",
                  fs::file_size(Model() / "model-1.safetensors") - 1);
  ExpectRefused(PackV41(), {"model-1.safetensors", "cut off", V41Weight(1)});
  fs::remove_all(Model());
  EXPECT_EQ(PackV41().status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(fs::is_empty(dir_));
}

// Whoever reads rows while a file is written gets some of each.
TEST_F(PackCheckpointTest, RefusesAFileThatChangesWhileItIsPacked) {
  const fs::path file = Model() / "model-14.safetensors";
  const auto in_place = [&] {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(-1, std::ios::end);
    stream.put('\x55');
  };
  const auto by_another = [&] {
    fs::copy_file(file, Model() / "new");
    fs::rename(Model() / "new", file);
  };
  for (const std::function<void()>& change :
       std::vector<std::function<void()>>{in_place, by_another}) {
    // Once when the headers are read and no row is yet, and once between the rows.
    for (const auto& [link, before_rows] :
         {std::pair{false, false}, {false, true}, {true, false}, {true, true}}) {
      WriteV41(Model(), V41Files());
      const fs::file_time_type written = fs::last_write_time(file);
      std::atomic<bool> is_changed = false;
      PackOptions options;
      options.output = Set();
      options.rows_per_head = kRowsPerHead;
      options.token_map_file = kV41Map;
      options.link = link;
      const auto change_once = [&] {
        if (is_changed.exchange(true)) return;
        change();
        // However coarse the file system's clock is.
        fs::last_write_time(file, written + std::chrono::seconds(1));
      };
      if (before_rows) options.on_note = [&](const std::string&) { change_once(); };
      options.on_progress = [&](uint64_t, uint64_t) { change_once(); };
      const Family& family = **FindFamily("deepseek-v4.1-flash");
      const absl::StatusOr<Manifest> packed = PackCheckpoint(family, Model(), options);
      EXPECT_TRUE(is_changed);
      EXPECT_EQ(packed.status().code(), absl::StatusCode::kFailedPrecondition) << packed.status();
      ExpectRefused(packed, {"model-14.safetensors", "changed"});
      // It stays as it is now, and is packed.
      EXPECT_TRUE(PackV41().ok());
      ExpectWhole();
      fs::remove_all(Set());
    }
  }
}

TEST_F(PackCheckpointTest, NeverWritesOverASet) {
  WriteV41(Model(), V41Files());
  ASSERT_TRUE(PackV41().ok());
  PackOptions options;
  options.output = Set();
  options.rows_per_head = kRowsPerHead;
  options.token_map_file = kV41Map;
  EXPECT_EQ(PackCheckpoint(**FindFamily("deepseek-v4.1-flash"), Model(), options).status().code(),
            absl::StatusCode::kAlreadyExists);
  ExpectWhole();
}

json V41Config() {
  return {{"engram_layer_ids", {1, 14}},
          {"engram_num_embeddings",
           {RowsOf("deepseek-v4.1-flash", 1), RowsOf("deepseek-v4.1-flash", 14)}},
          {"engram_max_ngram_size", 4},
          {"engram_vocab_size", kRowsPerHead},
          {"engram_n_heads", 8},
          {"engram_head_dim", 256},
          {"engram_pad_token_id", 2},
          {"engram_pad_id", 2},
          {"engram_compressed_vocab_size", 99092},
          {"hidden_size", 5120}};
}

TEST_F(PackCheckpointTest, TakesAConfigurationThatAgrees) {
  WriteV41(Model(), V41Files());
  json with_null = V41Config();
  with_null["engram_pad_id"] = nullptr;
  for (const json& config : {V41Config(), json{{"text_config", V41Config()}}, json::object(),
                             json{{"text_config", nullptr}}, with_null}) {
    WriteText(Model() / "config.json", config.dump());
    EXPECT_TRUE(PackV41().ok()) << config;
  }
}

TEST_F(PackCheckpointTest, RefusesAConfigurationThatDisagrees) {
  WriteV41(Model(), V41Files());
  const json others[] = {{{"engram_layer_ids", {1, 15}}},
                         {{"engram_layer_ids", {1}}},
                         {{"engram_num_embeddings", {1, 2}}},
                         {{"engram_max_ngram_size", 3}},
                         {{"engram_vocab_size", 16000000}},
                         {{"engram_n_heads", 4}},
                         {{"engram_head_dim", 128}},
                         {{"engram_pad_id", "2"}},
                         {{"engram_pad_id", 0}},
                         {{"engram_compressed_vocab_size", 1}}};
  for (const json& other : others) {
    const std::string key = other.begin().key();
    for (const bool nested : {false, true}) {
      json config = V41Config();
      config.update(other);
      WriteText(Model() / "config.json", (nested ? json{{"text_config", config}} : config).dump());
      fs::remove_all(Set());
      ExpectRefused(PackV41(), {Model() / "config.json", (nested ? "text_config." : "") + key,
                                other.begin()->dump()});
    }
  }
  WriteText(Model() / "config.json", json{{"engram_vocab_size", 1000}}.dump());
  ExpectRefused(PackV41(), {"--rows-per-head"});
}

}  // namespace
}  // namespace engram
