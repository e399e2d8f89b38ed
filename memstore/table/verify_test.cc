#include "memstore/table/verify.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"
#include "memstore/os/posix_file.h"
#include "memstore/pack/pack_synthetic.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/side_file.h"
#include "memstore/table/side_files.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class VerifyTest : public ::testing::Test {
 protected:
  // Two layers, the first in several shards, of 264-byte rows: the last blocks have padding.
  static void SetUpTestSuite() {
    fs::remove_all(Set());
    fs::create_directories(Set().parent_path());
    PackOptions options;
    options.output = Set();
    options.rows_per_head = 300;
    options.token_map_file = "tests/golden/deepseek_v41_token_map.i32";
    options.writer.shard_bytes = 1u << 20;
    const auto packed = PackSynthetic(**FindFamily("deepseek-v4.1-flash"), options);
    ASSERT_TRUE(packed.ok()) << packed.status();
  }
  static fs::path Set() { return fs::path(::testing::TempDir()) / "verify_test" / "set"; }
  static absl::Status Verify() { return VerifyTableSet(Set(), {}).status(); }
  static std::vector<fs::path> Files() {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(Set())) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
  }
  static void Flip(const fs::path& file, uint64_t offset, int bit) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(static_cast<std::streamoff>(offset));
    const char byte = static_cast<char>(stream.get() ^ (1 << bit));
    stream.seekp(static_cast<std::streamoff>(offset));
    stream.put(byte);
  }
};

TEST_F(VerifyTest, PassesAWholeSet) {
  uint64_t done = 0, total = 0;
  VerifyOptions options;
  options.on_progress = [&](uint64_t d, uint64_t t) { done = d, total = t; };
  const absl::StatusOr<Manifest> manifest = VerifyTableSet(Set(), options);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(done, manifest->TableBytes());
  EXPECT_EQ(total, manifest->TableBytes());
  EXPECT_GE(manifest->layers[0].shards.size(), 2u);
}

// Every part of every file: first and last bytes, header and its padding, rows, block borders, row
// padding.
TEST_F(VerifyTest, FindsAFlippedBitAnywhere) {
  int flips = 0;
  for (const fs::path& file : Files()) {
    const uint64_t bytes = fs::file_size(file);
    std::vector<uint64_t> places = {0, 1, 63, 64, 4095, 4096, bytes / 2, bytes - 2, bytes - 1};
    for (uint64_t i = 1; i < 8; ++i) {
      places.push_back(bytes * i / 8 + i);
      places.push_back(4096 + uint64_t{1024} * 264 * i);
      places.push_back(4096 + uint64_t{1024} * 264 * i - 1);
    }
    for (const uint64_t place : places) {
      if (place >= bytes) continue;
      const int bit = static_cast<int>(place % 8);
      Flip(file, place, bit);
      const absl::Status status = Verify();
      EXPECT_FALSE(status.ok()) << file << " byte " << place;
      EXPECT_THAT(std::string(status.message()), HasSubstr(Set()));
      Flip(file, place, bit);
      ++flips;
    }
  }
  EXPECT_GT(flips, 100);
  EXPECT_TRUE(Verify().ok());
}

TEST_F(VerifyTest, NamesFileBlockAndBytes) {
  const fs::path shard = Set() / "layer01-00001.rows";
  const uint64_t place = 4096 + 1024 * 264 + 5;  // in block 1
  Flip(shard, place, 3);
  const absl::Status status = Verify();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr(shard));
  EXPECT_THAT(std::string(status.message()), HasSubstr("block 1 (bytes 274432..544767, rows "));
  Flip(shard, place, 3);
}

TEST_F(VerifyTest, ReportsTheFirstOfSeveralErrors) {
  const fs::path first = Set() / "layer01-00000.rows", second = Set() / "layer14-00000.rows";
  const uint64_t later = 4096 + 3 * 1024 * 264, earlier = later - 1;
  for (const uint64_t place : {later, earlier}) Flip(first, place, 0);
  Flip(second, 4096, 0);
  for (int round = 0; round < 20; ++round) {
    EXPECT_THAT(std::string(Verify().message()),
                HasSubstr(absl::StrCat(first.string(), ": block 2 ")));
  }
  for (const uint64_t place : {later, earlier}) Flip(first, place, 0);
  Flip(second, 4096, 0);
  EXPECT_TRUE(Verify().ok());
}

TEST_F(VerifyTest, FindsWhatIsMissing) {
  for (const fs::path& file : Files()) {
    if (file.extension() == kSideFileSuffix) continue;
    const fs::path away = Set().parent_path() / "away";
    fs::rename(file, away);
    const absl::Status status = Verify();
    EXPECT_FALSE(status.ok()) << file;
    EXPECT_THAT(std::string(status.message()), HasSubstr(file.filename()));
    fs::rename(away, file);
  }
  EXPECT_TRUE(Verify().ok());
}

TEST_F(VerifyTest, FindsFilesCutOffOrAddedTo) {
  for (const fs::path& file : Files()) {
    const std::string text = ReadWholeFile(file, 1u << 30).value();
    for (const uint64_t bytes : {uint64_t{0}, text.size() - 1, text.size() + 1}) {
      fs::resize_file(file, bytes);
      const absl::Status status = Verify();
      EXPECT_FALSE(status.ok()) << file << " " << bytes;
      EXPECT_THAT(std::string(status.message()), HasSubstr(file.filename()));
      std::ofstream(file, std::ios::binary) << text;
    }
  }
  EXPECT_TRUE(Verify().ok());
}

TEST_F(VerifyTest, FindsWhatDoesNotBelong) {
  const fs::path extra = Set() / "extra";
  std::ofstream(extra) << "";
  EXPECT_THAT(std::string(Verify().message()), HasSubstr(extra));
  fs::remove(extra);
  fs::create_directory(extra);
  EXPECT_THAT(std::string(Verify().message()), HasSubstr(extra));
  fs::remove(extra);
  std::ofstream(Set() / ".hidden") << "";
  EXPECT_FALSE(Verify().ok());
  fs::remove(Set() / ".hidden");
  EXPECT_TRUE(Verify().ok());
}

TEST_F(VerifyTest, RefusesALinkInAFilesPlace) {
  for (const fs::path& file : Files()) {
    const fs::path away = Set().parent_path() / "away";
    fs::rename(file, away);
    fs::create_symlink(away, file);
    const absl::Status status = Verify();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << file;
    EXPECT_THAT(std::string(status.message()), HasSubstr(file));
    fs::remove(file);
    fs::rename(away, file);
  }
}

// A checksum file that was made anew over damaged rows is not the one that the manifest names.
TEST_F(VerifyTest, ChecksumFilesAreCovered) {
  const fs::path file = Set() / "layer01-00000.crc32c";
  const std::string text = ReadWholeFile(file, 1u << 20).value();
  std::string other = text;
  other[4] ^= 1;
  std::ofstream(file, std::ios::binary) << other;
  const absl::Status status = Verify();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr(Sha256Hex(text)));
  std::ofstream(file, std::ios::binary) << text;
}

TEST_F(VerifyTest, DoesWithoutSideFiles) {
  const fs::path away = Set().parent_path() / "away";
  fs::create_directory(away);
  size_t moved = 0;
  for (const fs::path& file : Files()) {
    if (file.extension() != kSideFileSuffix) continue;
    fs::rename(file, away / file.filename());
    EXPECT_TRUE(Verify().ok()) << file;
    ++moved;
  }
  EXPECT_GE(moved, 4u);
  for (const auto& entry : fs::directory_iterator(away)) {
    fs::rename(entry.path(), Set() / entry.path().filename());
  }
  fs::remove(away);
  EXPECT_TRUE(Verify().ok());
}

TEST_F(VerifyTest, RefusesASideFileOfAnotherSet) {
  const fs::path file = Set() / kProvenanceFile;
  const std::string text = ReadWholeFile(file, 1u << 20).value();
  fs::remove(file);
  ASSERT_TRUE(WriteSideFile(file, kProvenanceKind, Sha256Hex("another set"), "{}").ok());
  EXPECT_EQ(Verify().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(Verify().message()), HasSubstr(file));
  std::ofstream(file, std::ios::binary) << text;
  EXPECT_TRUE(Verify().ok());
}

// Blocks of 90,000 bytes begin and end within pages.
TEST(VerifyPagesTest, HoldsEveryPageAgainstItsChecksum) {
  const std::string set = fs::path(::testing::TempDir()) / "verify_pages_test";
  const Manifest manifest =
      testing::WriteSmallTableSet(
          {.layers = {{.row_bytes = 90, .rows = 70'000, .shard_rows = 65'536, .block_rows = 1000}}},
          set)
          .value();
  ASSERT_TRUE(testing::WriteSmallSideFiles(manifest, "maker/model", set, set).ok());
  const auto verify = [&] { return VerifyTableSet(set, {}).status(); };
  ASSERT_TRUE(verify().ok()) << verify();
  for (const ShardSpec& shard : manifest.layers[0].shards) {
    const PageChecksums right = *LoadPageChecksums(set, "", manifest, shard).value();
    const auto write = [&](const std::vector<uint32_t>& pages) {
      fs::remove(right.path);
      ASSERT_TRUE(
          WriteSideFile(right.path, kPageChecksumsKind, manifest.id, PageChecksumsBody(pages))
              .ok());
    };
    for (size_t page = 0; page < right.pages.size(); page += page < 50 ? 1 : 97) {
      std::vector<uint32_t> pages = right.pages;
      pages[page] ^= 1;
      write(pages);
      const absl::Status status = verify();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << page;
      EXPECT_THAT(std::string(status.message()),
                  HasSubstr(absl::StrCat(right.path, " says another checksum of page ", page,
                                         " of ", shard.file)));
    }
    std::vector<uint32_t> last = right.pages;
    last.back() ^= 1;
    write(last);
    EXPECT_EQ(verify().code(), absl::StatusCode::kDataLoss);
    write(right.pages);
  }
  // Damaged rows are named, not the side file, wherever in a page and a block they are.
  const fs::path shard = fs::path(set) / manifest.layers[0].shards[0].file;
  for (const uint64_t at : {4096, 4096 + 89'999, 4096 + 90'000, 4096 + 180'000 - 1}) {
    std::fstream stream(shard, std::ios::in | std::ios::out | std::ios::binary);
    const auto flip = [&] {
      stream.seekg(static_cast<std::streamoff>(at));
      const char byte = static_cast<char>(stream.get() ^ 1);
      stream.seekp(static_cast<std::streamoff>(at));
      stream.put(byte);
      stream.flush();
    };
    flip();
    EXPECT_THAT(std::string(verify().message()),
                HasSubstr(absl::StrCat(shard.string(), ": block ", (at - 4096) / 90'000)));
    flip();
  }
  EXPECT_TRUE(verify().ok());
  fs::remove_all(set);
}

TEST_F(VerifyTest, SaysWhereThereIsNoSet) {
  EXPECT_EQ(VerifyTableSet(Set() / "none", {}).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace engram
