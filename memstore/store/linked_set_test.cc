// Linked sets beside the packed ones of the same checkpoints: the same id and the same rows, and
// whatever happens to the checkpoint's files is found and named.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/pack/pack_checkpoint.h"
#include "memstore/pack/testing/small_checkpoint.h"
#include "memstore/store/table_set.h"
#include "memstore/table/side_file.h"
#include "memstore/table/side_files.h"
#include "memstore/table/verify.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using testing_checkpoint::Files;
using testing_checkpoint::SomeBytes;
using testing_checkpoint::WriteCheckpoint;

constexpr char kV41Map[] = "tests/golden/deepseek_v41_token_map.i32";
constexpr char kV41[] = "deepseek-v4.1-flash";
constexpr char kQwen[] = "qwen4-exp";
constexpr char kLongCat[] = "longcat-flash-lite";
constexpr uint64_t kRowsPerHead = 500;
// Small, so that a layer has several shards.
constexpr uint64_t kShardBytes = 1u << 20;

AddressScheme SchemeOf(const char* family) {
  return Derive(**FindFamily(family), {kRowsPerHead, {}}).value();
}

// Weights and scales in two tensors, which a row joins; of each layer in one file, or in two.
Files V41Files(bool scales_apart) {
  Files files;
  for (const LayerAddressing& layer : SchemeOf(kV41).layers) {
    const uint64_t rows = layer.Rows();
    const std::string stem = absl::StrCat("layers.", layer.layer, ".engram.embed.");
    const std::string file = absl::StrCat("model-", layer.layer, ".safetensors");
    files[file].push_back(
        {stem + "weight", "F8_E4M3", {rows, 256}, SomeBytes(layer.layer, rows * 256)});
    files[scales_apart ? "scales.safetensors" : file].push_back(
        {stem + "scale", "F8_E8M0", {rows, 8}, SomeBytes(layer.layer + 100, rows * 8)});
  }
  return files;
}

// One table in pieces of an odd length over three files.
Files QwenFiles() {
  const uint64_t rows = SchemeOf(kQwen).layers[0].Rows();
  constexpr uint64_t kPieceRows = 777;
  Files files;
  for (uint64_t piece = 0; piece * kPieceRows < rows; ++piece) {
    const uint64_t count = std::min(kPieceRows, rows - piece * kPieceRows);
    files[absl::StrCat("model-", piece % 3, ".safetensors")].push_back(
        {absl::StrCat("model.language_model.layers.1.ple.ple_embedding.ngram_embedding.shard_",
                      piece, ".weight"),
         "BF16",
         {count, 160},
         SomeBytes(piece, count * 320)});
  }
  return files;
}

// A tensor a column.
Files LongCatFiles() {
  const LayerAddressing layer = SchemeOf(kLongCat).layers[0];
  Files files;
  for (size_t i = 0; i < layer.moduli.size(); ++i) {
    files[absl::StrCat("model-", i % 2, ".safetensors")].push_back(
        {absl::StrCat("model.ngram_embeddings.embedders.", i, ".weight"),
         "BF16",
         {layer.moduli[i], 256},
         SomeBytes(i, layer.moduli[i] * 512)});
  }
  return files;
}

class LinkedSetTest : public ::testing::Test {
 protected:
  LinkedSetTest()
      : dir_(fs::path(::testing::TempDir()) /
             absl::StrCat("linked_set_",
                          ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~LinkedSetTest() override { fs::remove_all(dir_); }
  fs::path Model() const { return dir_ / "model"; }
  std::string Linked() const { return dir_ / "linked"; }

  absl::StatusOr<Manifest> Pack(const char* family, bool link) {
    PackOptions options;
    options.output = dir_ / (link ? "linked" : "packed");
    fs::remove_all(options.output);
    options.rows_per_head = kRowsPerHead;
    options.writer.shard_bytes = kShardBytes;
    options.link = link;
    if (absl::string_view(family) == kV41) options.token_map_file = kV41Map;
    return PackCheckpoint(**FindFamily(family), Model(), options);
  }
  Manifest LinkV41(bool scales_apart) {
    WriteCheckpoint(Model(), V41Files(scales_apart));
    absl::StatusOr<Manifest> linked = Pack(kV41, /*link=*/true);
    EXPECT_TRUE(linked.ok()) << linked.status();
    return *std::move(linked);
  }
  // What loading and verifying say, which is one thing.
  absl::Status Said() {
    const absl::Status loaded = TableSet::Load(Linked(), {}).status();
    const absl::Status verified = VerifyTableSet(Linked(), {}).status();
    EXPECT_EQ(loaded.code(), verified.code()) << loaded << verified;
    EXPECT_EQ(loaded.message(), verified.message());
    return loaded;
  }
  void ExpectSaid(absl::StatusCode code, const std::vector<std::string>& parts) {
    const absl::Status said = Said();
    EXPECT_EQ(said.code(), code) << said;
    for (const std::string& part : parts) EXPECT_THAT(said.message(), HasSubstr(part));
  }
  // Changes a byte and gives the file back the time that it had.
  void Damage(const std::string& file, uint64_t at) {
    const fs::path path = Model() / file;
    const fs::file_time_type time = fs::last_write_time(path);
    std::fstream stream(path, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(static_cast<std::streamoff>(at));
    const char byte = static_cast<char>(stream.get() ^ 1);
    stream.seekp(static_cast<std::streamoff>(at));
    stream.put(byte);
    stream.close();
    fs::last_write_time(path, time);
  }

  const fs::path dir_;
};

TEST_F(LinkedSetTest, HasTheIdAndTheRowsOfThePackedSet) {
  const std::vector<std::pair<const char*, Files>> layouts = {{kV41, V41Files(false)},
                                                              {kV41, V41Files(true)},
                                                              {kQwen, QwenFiles()},
                                                              {kLongCat, LongCatFiles()}};
  for (const auto& [family, files] : layouts) {
    SCOPED_TRACE(absl::StrCat(family, " in ", files.size(), " files"));
    fs::remove_all(Model());
    WriteCheckpoint(Model(), files);
    const absl::StatusOr<Manifest> packed = Pack(family, /*link=*/false);
    const absl::StatusOr<Manifest> linked = Pack(family, /*link=*/true);
    ASSERT_TRUE(packed.ok() && linked.ok()) << packed.status() << linked.status();
    EXPECT_GT(packed->layers[0].shards.size(), 1u);
    EXPECT_EQ(linked->text, packed->text);
    EXPECT_EQ(linked->id, packed->id);
    EXPECT_TRUE(VerifyTableSet(Linked(), {}).ok());
    const auto rows = TableSet::Load(dir_ / "packed", {});
    ASSERT_TRUE(rows.ok()) << rows.status();
    for (const uint32_t threads : {1u, 7u}) {
      LoadOptions options;
      options.threads = threads;
      const auto set = TableSet::Load(Linked(), options);
      ASSERT_TRUE(set.ok()) << set.status();
      ASSERT_EQ((*set)->layers().size(), (*rows)->layers().size());
      for (size_t i = 0; i < (*set)->layers().size(); ++i) {
        const GatherTable& one = (*set)->layers()[i].table;
        const GatherTable& other = (*rows)->layers()[i].table;
        ASSERT_EQ(one.rows, other.rows);
        EXPECT_EQ(std::memcmp(one.base, other.base, one.rows * one.row_bytes), 0);
      }
    }
  }
}

TEST_F(LinkedSetTest, HoldsNoRows) {
  const Manifest manifest = LinkV41(false);
  std::set<std::string> files = {kManifestFile, kManifestDigestFile, kTokenMapFile,
                                 kLinksFile,    kProvenanceFile,     kImageTokenIdsFile};
  uint64_t row_bytes = 0;
  for (const LayerTableSpec& layer : manifest.layers) {
    for (const ShardSpec& shard : layer.shards) files.insert(shard.checksum_file);
    row_bytes += layer.rows * layer.row_bytes;
  }
  uint64_t bytes = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(Linked())) {
    EXPECT_EQ(files.erase(entry.path().filename()), 1u) << entry.path();
    if (entry.path().filename() != kTokenMapFile) bytes += entry.file_size();
  }
  EXPECT_TRUE(files.empty());
  EXPECT_LT(bytes, row_bytes / 100);
}

// By the name it was given, whatever the working directory is later, and through a link.
TEST_F(LinkedSetTest, PathsAreAbsoluteAndResolved) {
  LinkV41(false);
  fs::create_directory_symlink(Model(), dir_ / "current");
  const fs::path before = fs::current_path();
  PackOptions options;
  options.output = Linked();
  options.rows_per_head = kRowsPerHead;
  options.token_map_file = fs::absolute(kV41Map);
  options.link = true;
  fs::remove_all(Linked());
  fs::current_path(dir_);
  const absl::StatusOr<Manifest> linked = PackCheckpoint(**FindFamily(kV41), "current", options);
  fs::current_path(before);
  ASSERT_TRUE(linked.ok()) << linked.status();
  fs::remove(dir_ / "current");
  EXPECT_TRUE(TableSet::Load(Linked(), {}).ok());
}

TEST_F(LinkedSetTest, AFileThatChangedIsRefusedByName) {
  LinkV41(false);
  const fs::path file = Model() / "model-14.safetensors";
  const fs::file_time_type time = fs::last_write_time(file);
  const uint64_t bytes = fs::file_size(file);
  const auto expect = [&](absl::StatusCode code) {
    ExpectSaid(code, {file.string(), "engram pack --link"});
  };

  fs::last_write_time(file, time + std::chrono::nanoseconds(1000));
  expect(absl::StatusCode::kFailedPrecondition);
  for (const uint64_t size : {bytes + 1, bytes - 1}) {
    fs::resize_file(file, size);
    fs::last_write_time(file, time);
    expect(absl::StatusCode::kFailedPrecondition);
  }
  fs::resize_file(file, bytes);
  fs::last_write_time(file, time);
  Damage("model-14.safetensors", 20);  // of the header
  expect(absl::StatusCode::kFailedPrecondition);
  Damage("model-14.safetensors", 20);
  fs::rename(Model(), dir_ / "moved");
  ExpectSaid(absl::StatusCode::kNotFound, {Model().string(), "moved", "engram pack --link"});
  fs::rename(dir_ / "moved", Model());
  Damage("model-14.safetensors", bytes - 1);  // what was cut off above is zero now
  EXPECT_EQ(Said().code(), absl::StatusCode::kDataLoss);
}

// Size and time say nothing: the checksums of the blocks do.
TEST_F(LinkedSetTest, ADamagedRowIsFoundAndNamedByTheCheckpointsFile) {
  LinkV41(true);
  for (const std::string file : {"model-1.safetensors", "model-14.safetensors"}) {
    const uint64_t at = fs::file_size(Model() / file) - 1;
    Damage(file, at);
    ExpectSaid(absl::StatusCode::kDataLoss, {(Model() / file).string(), absl::StrCat("..", at, ")"),
                                             "checksum", "engram pack --link"});
    EXPECT_THAT(Said().message(), Not(HasSubstr(".rows")));
    Damage(file, at);
    EXPECT_TRUE(Said().ok());
  }
  const uint64_t last = fs::file_size(Model() / "scales.safetensors") - 1;
  Damage("scales.safetensors", last);
  ExpectSaid(absl::StatusCode::kDataLoss, {(Model() / "scales.safetensors").string(), "layer 14"});
}

TEST_F(LinkedSetTest, ItsDirectoryHasLinksOrShardsAndNotBoth) {
  const Manifest manifest = LinkV41(false);
  const ShardSpec& shard = manifest.layers[0].shards[0];
  const fs::path links = fs::path(Linked()) / kLinksFile;
  const fs::path rows = fs::path(Linked()) / shard.file;
  std::ofstream(rows) << "";
  fs::resize_file(rows, shard.file_bytes);
  ExpectSaid(absl::StatusCode::kDataLoss, {rows.string(), links.string()});
  fs::remove(rows);
  fs::rename(links, dir_ / "aside");
  ExpectSaid(absl::StatusCode::kNotFound, {rows.string(), "if it was linked, link it again"});
  std::ofstream(rows) << "";
  fs::resize_file(rows, shard.file_bytes);  // so it was packed, and others of its shards are lost
  EXPECT_THAT(std::string(Said().message()), Not(HasSubstr("link it again")));
  fs::remove(rows);
  fs::rename(dir_ / "aside", links);
  EXPECT_TRUE(Said().ok());
}

TEST_F(LinkedSetTest, LinksThatAreDamagedOrOfAnotherSetAreRefused) {
  const Manifest manifest = LinkV41(false);
  const std::string links = fs::path(Linked()) / kLinksFile;
  const std::string body = ReadSideFile(links, kLinksKind, manifest.id, kMaxLinksBytes).value();
  fs::remove(links);
  ASSERT_TRUE(WriteSideFile(links, kLinksKind, std::string(64, '0'), body).ok());
  ExpectSaid(absl::StatusCode::kFailedPrecondition, {links, std::string(64, '0')});
  fs::remove(links);
  ASSERT_TRUE(WriteSideFile(links, kLinksKind, manifest.id, "{}").ok());
  ExpectSaid(absl::StatusCode::kDataLoss, {links});
  fs::remove(links);
  ASSERT_TRUE(WriteSideFile(links, kLinksKind, manifest.id, body).ok());
  EXPECT_TRUE(Said().ok());
  fs::resize_file(links, fs::file_size(links) - 1);
  ExpectSaid(absl::StatusCode::kDataLoss, {links});
}

}  // namespace
}  // namespace engram
