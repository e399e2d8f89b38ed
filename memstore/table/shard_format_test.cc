#include "memstore/table/shard_format.h"

#include <sys/resource.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

absl::Span<const std::byte> Bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// The vectors of RFC 3720, B.4, and the check value of the CRC catalogues.
TEST(Crc32cTest, PublishedVectors) {
  EXPECT_EQ(Crc32c(Bytes("123456789")), 0xE3069283u);
  EXPECT_EQ(Crc32c(Bytes(std::string(32, '\0'))), 0x8A9136AAu);
  EXPECT_EQ(Crc32c(Bytes(std::string(32, '\xff'))), 0x62A8AB43u);
  std::string ascending;
  for (int i = 0; i < 32; ++i) ascending.push_back(static_cast<char>(i));
  EXPECT_EQ(Crc32c(Bytes(ascending)), 0x46DD794Eu);
  EXPECT_EQ(Crc32c({}), 0u);
}

TEST(ShardFormatTest, HeaderByTheByte) {
  LayerTableSpec layer{14, 9000, 264, {}, {}, false};
  const ShardSpec shard{"f", "c", 4096, 4904, 1024, 0, ""};
  const std::vector<std::byte> page = MakeShardHeader(layer, shard);
  ASSERT_EQ(page.size(), 4096u);
  const uint8_t want[64] = {'E', 'N', 'G',  'R',  'S', 'H', 'R', 'D', 1, 0, 0,    0, 0, 0x10, 0,
                            0,   14,  0,    0,    0,   8,   1,   0,   0, 0, 0x10, 0, 0, 0,    0,
                            0,   0,   0x28, 0x13, 0,   0,   0,   0,   0, 0, 0,    4, 0, 0};
  EXPECT_EQ(std::memcmp(page.data(), want, sizeof(want)), 0);
  for (size_t i = sizeof(want); i < page.size(); ++i) EXPECT_EQ(page[i], std::byte{0}) << i;
}

TEST(ShardFormatTest, BlocksCoverTheFileWithoutGap) {
  for (const uint64_t rows : {1u, 1023u, 1024u, 1025u, 5000u}) {
    for (const uint32_t row_bytes : {8u, 90u, 264u, 4096u}) {
      LayerTableSpec layer;
      layer.row_bytes = row_bytes;
      ShardSpec shard;
      shard.rows = rows;
      shard.block_rows = 1024;
      uint64_t at = kShardHeaderBytes;
      for (uint64_t block = 0; block < ShardBlocks(shard); ++block) {
        EXPECT_EQ(BlockOffset(layer, shard, block), at);
        at += BlockBytes(layer, shard, block);
      }
      EXPECT_EQ(at, ShardFileBytes(rows, row_bytes));
      EXPECT_EQ(at % kShardPageBytes, 0u);
      EXPECT_GE(at, kShardHeaderBytes + rows * row_bytes);
      EXPECT_LT(at, kShardHeaderBytes + rows * row_bytes + kShardPageBytes);
    }
  }
}

TEST(ShardFormatTest, BlockRowsDivideTheRowMultipleAndKeepToTheTarget) {
  for (uint32_t row_bytes = kMinRowBytes; row_bytes <= kMaxRowBytes; ++row_bytes) {
    const uint32_t rows = ChooseBlockRows(row_bytes);
    EXPECT_EQ(kShardRowMultiple % rows, 0u) << row_bytes;
    EXPECT_LE(uint64_t{rows} * row_bytes, kTargetBlockBytes) << row_bytes;
  }
  EXPECT_EQ(ChooseBlockRows(264), 1024u);
}

class LoadChecksumsTest : public testing::Test {
 protected:
  LoadChecksumsTest() : dir_(std::filesystem::path(testing::TempDir()) / "shard_format_test") {
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
    layer_.row_bytes = 264;
    shard_ = {"a.rows", "a.crc32c", 0, 2000, 1024, 0, Sha256Hex(text_)};
    Write(text_);
  }
  void Write(const std::string& text) {
    std::ofstream(dir_ / "a.crc32c", std::ios::binary) << text;
  }
  absl::Status Load() { return LoadChecksums(dir_, layer_, shard_).status(); }

  const std::string text_ = {1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 4};
  std::filesystem::path dir_;
  LayerTableSpec layer_;
  ShardSpec shard_;
};

TEST_F(LoadChecksumsTest, GivesTheWords) {
  EXPECT_EQ(LoadChecksums(dir_, layer_, shard_).value(), (std::vector<uint32_t>{1, 2, 0x04000003}));
}

TEST_F(LoadChecksumsTest, RefusesEveryOtherFile) {
  for (const std::string& damaged :
       {text_.substr(1), text_ + "x", std::string(), "y" + text_.substr(1)}) {
    Write(damaged);
    const absl::Status status = Load();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr(dir_ / "a.crc32c"));
  }
  std::filesystem::remove(dir_ / "a.crc32c");
  EXPECT_EQ(Load().code(), absl::StatusCode::kNotFound);
}

TEST_F(LoadChecksumsTest, AProcessWithoutDescriptorsSaysNothingOfTheFile) {
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none = {0, limit.rlim_max};
  // Not by the fixture: to look at an object's type UBSan opens a pipe.
  const std::string dir = dir_;
  const auto layer = layer_;
  const auto shard = shard_;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status status = LoadChecksums(dir, layer, shard).status();
  setrlimit(RLIMIT_NOFILE, &limit);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("ulimit -n"));
}

// A manifest may claim what it likes; nothing is allocated for it before the file is seen.
TEST_F(LoadChecksumsTest, AllocatesNothingForAClaim) {
  shard_.rows = uint64_t{1} << 40;
  shard_.block_rows = 1;
  EXPECT_EQ(Load().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace engram
