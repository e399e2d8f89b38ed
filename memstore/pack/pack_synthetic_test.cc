#include "memstore/pack/pack_synthetic.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/side_files.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kV41Map[] = "tests/golden/deepseek_v41_token_map.i32";
constexpr char kV3Map[] = "tests/golden/deepseek_v3_token_map.i32";

class PackSyntheticTest : public testing::Test {
 protected:
  PackSyntheticTest() : dir_(fs::path(testing::TempDir()) / "pack_synthetic_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~PackSyntheticTest() override { fs::remove_all(dir_); }
  PackOptions Options(const std::string& token_map, uint64_t rows_per_head) const {
    PackOptions options;
    options.output = dir_ / "set";
    options.rows_per_head = rows_per_head;
    options.token_map_file = token_map;
    return options;
  }
  std::string Read(const std::string& name) const {
    return ReadWholeFile(dir_ / "set" / name, uint64_t{1} << 30).value();
  }
  void ExpectSound(const LayerTableSpec& layer) const;
  fs::path dir_;
};

absl::Span<const std::byte> Bytes(absl::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// Reads the shards by the format's page alone: header, every row, padding, every checksum.
void PackSyntheticTest::ExpectSound(const LayerTableSpec& layer) const {
  for (const ShardSpec& shard : layer.shards) {
    const std::string file = Read(shard.file);
    ASSERT_EQ(file.size(), shard.file_bytes);
    const std::vector<std::byte> header = MakeShardHeader(layer, shard);
    ASSERT_EQ(std::memcmp(file.data(), header.data(), header.size()), 0);
    for (uint64_t row = 0; row < shard.rows; ++row) {
      const auto bytes =
          absl::string_view(file).substr(4096 + row * layer.row_bytes, layer.row_bytes);
      ASSERT_TRUE(IsSyntheticRow(layer.layer, shard.first_row + row, Bytes(bytes))) << row;
    }
    for (size_t at = 4096 + shard.rows * layer.row_bytes; at < file.size(); ++at) {
      ASSERT_EQ(file[at], '\0') << at;
    }
    const std::string checksums = Read(shard.checksum_file);
    EXPECT_EQ(Sha256Hex(checksums), shard.checksum_file_sha256);
    std::vector<uint32_t> words(checksums.size() / 4);
    std::memcpy(words.data(), checksums.data(), checksums.size());
    ASSERT_EQ(words.size(), 1 + ShardBlocks(shard));
    EXPECT_EQ(words[0], Crc32c(header));
    const uint64_t block_bytes = uint64_t{shard.block_rows} * layer.row_bytes;
    for (size_t block = 1; block < words.size(); ++block) {
      const auto bytes = absl::string_view(file).substr(
          4096 + (block - 1) * block_bytes,
          block + 1 == words.size() ? absl::string_view::npos : block_bytes);
      EXPECT_EQ(words[block], Crc32c(Bytes(bytes))) << shard.file << " block " << block - 1;
    }
  }
}

TEST_F(PackSyntheticTest, EveryFamilyInShardsThatAreSound) {
  for (const Family& family : Families()) {
    fs::remove_all(dir_ / "set");
    const bool is_v41 = family.vocab_size == 129280;
    PackOptions options = Options(family.compressed_vocab_size == 0 ? ""
                                  : is_v41                          ? kV41Map
                                                                    : kV3Map,
                                  1000);
    options.writer.shard_bytes = 2u << 20;
    uint64_t done = 0, total = 0;
    options.on_progress = [&](uint64_t d, uint64_t t) { done = d, total = t; };
    const absl::StatusOr<Manifest> manifest = PackSynthetic(family, options);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    EXPECT_EQ(manifest->name, family.name);
    EXPECT_EQ(manifest->layers.size(), family.layers.size());
    EXPECT_EQ(done, manifest->TableBytes());
    EXPECT_EQ(total, manifest->TableBytes());
    size_t files = 3 + (family.compressed_vocab_size > 0);  // manifest, its digest, provenance
    files += !family.image_token_ids.empty();
    for (const LayerTableSpec& layer : manifest->layers) {
      EXPECT_GE(layer.shards.size(), 2u) << family.name;
      files += 3 * layer.shards.size();
      ExpectSound(layer);
    }
    EXPECT_EQ(std::distance(fs::directory_iterator(dir_ / "set"), {}), files);
    EXPECT_EQ(LoadManifest(dir_ / "set").value().id, manifest->id);
    EXPECT_EQ(std::distance(fs::directory_iterator(dir_), {}), 1);
  }
}

// As a set of the released model has them; other families' models know none.
TEST_F(PackSyntheticTest, HasTheFamilysImageTokenIds) {
  const absl::StatusOr<Manifest> v41 =
      PackSynthetic(**FindFamily("deepseek-v4.1-flash"), Options(kV41Map, 100));
  ASSERT_TRUE(v41.ok()) << v41.status();
  EXPECT_THAT(LoadSmallSideFiles(dir_ / "set", "", *v41).value().image_token_ids,
              ElementsAre(129264));
  fs::remove_all(dir_ / "set");
  const absl::StatusOr<Manifest> qwen = PackSynthetic(**FindFamily("qwen4-exp"), Options("", 100));
  ASSERT_TRUE(qwen.ok()) << qwen.status();
  EXPECT_THAT(LoadSmallSideFiles(dir_ / "set", "", *qwen).value().image_token_ids, IsEmpty());
}

TEST_F(PackSyntheticTest, RowsAreAsWideAsReleased) {
  const std::pair<const char*, uint32_t> widths[] = {{"deepseek-v4.1-flash", 264},
                                                     {"engram-demo-v1", 128},
                                                     {"engram-27b", 160},
                                                     {"qwen4-exp", 320},
                                                     {"longcat-flash-lite", 512}};
  for (const auto& [name, row_bytes] : widths) {
    EXPECT_EQ(EncodedRowBytes(ReleasedEncoding(**FindFamily(name))), row_bytes) << name;
  }
}

TEST_F(PackSyntheticTest, TheSameWhateverTheThreads) {
  std::string ids[2];
  for (const uint32_t threads : {1u, 7u}) {
    fs::remove_all(dir_ / "set");
    PackOptions options = Options(kV41Map, 2000);
    options.layers = {14};
    options.name = "mine";
    options.writer.threads = threads;
    options.writer.shard_bytes = 3u << 20;
    const absl::StatusOr<Manifest> manifest =
        PackSynthetic(**FindFamily("deepseek-v4.1-flash"), options);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    EXPECT_EQ(manifest->name, "mine");
    ASSERT_EQ(manifest->layers.size(), 1u);
    EXPECT_EQ(manifest->layers[0].layer, 14u);
    ids[threads > 1] = manifest->id;
  }
  EXPECT_EQ(ids[0], ids[1]);
}

TEST_F(PackSyntheticTest, SaysHowToGetATokenMap) {
  const Family& family = **FindFamily("deepseek-v4.1-flash");
  const absl::Status status = PackSynthetic(family, Options("", 1000)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("--token-map"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(family.token_map_source)));
}

TEST_F(PackSyntheticTest, RefusesAWrongTokenMapAndLeavesNothing) {
  const Family& family = **FindFamily("deepseek-v4.1-flash");
  EXPECT_EQ(PackSynthetic(family, Options(kV3Map, 1000)).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(PackSynthetic(family, Options(dir_ / "none", 1000)).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(PackSynthetic(**FindFamily("qwen4-exp"), Options(kV3Map, 1000)).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(fs::is_empty(dir_));
}

TEST_F(PackSyntheticTest, NeverWritesOverASet) {
  const Family& family = **FindFamily("qwen4-exp");
  ASSERT_TRUE(PackSynthetic(family, Options("", 100)).ok());
  const std::string before = Read(kManifestFile);
  EXPECT_EQ(PackSynthetic(family, Options("", 200)).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Read(kManifestFile), before);
}

TEST_F(PackSyntheticTest, RefusesWhatTheDeviceHasNoRoomFor) {
  const absl::Status status =
      PackSynthetic(**FindFamily("qwen4-exp"), Options("", 2'000'000'000)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_TRUE(fs::is_empty(dir_));
}

// Killed when it is halfway through: no output; the next run keeps what is finished and is whole.
TEST_F(PackSyntheticTest, GoesOnAfterAKill) {
  const Family& family = **FindFamily("qwen4-exp");
  PackOptions options = Options("", 5000);
  options.writer.shard_bytes = 4u << 20;
  const pid_t child = fork();
  if (child == 0) {
    options.on_progress = [](uint64_t done, uint64_t total) {
      if (done > total / 2) kill(getpid(), SIGKILL);
    };
    (void)PackSynthetic(family, options).ok();
    _exit(0);
  }
  int ended;
  ASSERT_EQ(waitpid(child, &ended, 0), child);
  ASSERT_TRUE(WIFSIGNALED(ended));
  EXPECT_FALSE(fs::exists(dir_ / "set"));
  EXPECT_TRUE(fs::exists(dir_ / ".set.partial"));
  std::string notes;
  options.on_note = [&](const std::string& line) { notes += line; };
  const absl::StatusOr<Manifest> manifest = PackSynthetic(family, options);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_THAT(notes, HasSubstr("goes on with "));
  ExpectSound(manifest->layers[0]);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_), {}), 1);
}

// Its rows would be those of layer 0.
TEST_F(PackSyntheticTest, RefusesALayerThatTheRuleHasNoNumberFor) {
  PackOptions options = Options("", 100);
  options.layers = {kMaxSyntheticLayer + 1};
  const Family& family = **FindFamily("qwen4-exp");
  EXPECT_EQ(PackSynthetic(family, options).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(fs::is_empty(dir_));
  options.layers = {kMaxSyntheticLayer};
  const absl::StatusOr<Manifest> manifest = PackSynthetic(family, options);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  ExpectSound(manifest->layers[0]);
}

TEST_F(PackSyntheticTest, RefusesABadNameBeforeARowIsWritten) {
  PackOptions options = Options("", 100);
  options.name = "a/b";
  options.on_progress = [](uint64_t, uint64_t) { ADD_FAILURE() << "rows were written"; };
  const absl::Status status = PackSynthetic(**FindFamily("qwen4-exp"), options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("name is \"a/b\""));
  EXPECT_TRUE(fs::is_empty(dir_));
}

}  // namespace
}  // namespace engram
