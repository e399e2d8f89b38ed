#include "memstore/pack/output/table_set_writer.h"

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/families.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/side_file.h"
#include "memstore/table/side_files.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr uint64_t kAnyBytes = uint64_t{1} << 30;

class TableSetWriterTest : public testing::Test {
 protected:
  TableSetWriterTest() : dir_(fs::path(testing::TempDir()) / "table_set_writer_test") {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    options_.shard_bytes = 3u << 20;
  }
  ~TableSetWriterTest() override { fs::remove_all(dir_); }

  // A set of synthetic rows of this width, with what `also` adds.
  absl::StatusOr<Manifest> WriteSet(
      const std::string& name, uint32_t row_bytes,
      const std::function<absl::Status(TableSetWriter&)>& also = nullptr) const {
    const AddressScheme scheme = Derive(**FindFamily("qwen4-exp"), {1000, {}}).value();
    absl::StatusOr<TableSetWriter> writer = TableSetWriter::Begin(dir_ / name, options_);
    if (!writer.ok()) return writer.status();
    ProgressCount progress(1, nullptr);
    std::vector<LayerTableSpec> layers;
    for (const LayerAddressing& addressing : scheme.layers) {
      LayerTableSpec& layer = layers.emplace_back();
      layer.layer = addressing.layer;
      layer.rows = addressing.Rows();
      layer.row_bytes = row_bytes;
      layer.synthetic = true;
    }
    if (absl::Status planned = writer->Plan(scheme, layers); !planned.ok()) return planned;
    for (const LayerTableSpec& layer : layers) {
      const auto fill = [&layer](RowId first_row, absl::Span<std::byte> rows) {
        SyntheticRows(layer.layer, first_row, layer.row_bytes, rows);
        return absl::OkStatus();
      };
      absl::Status added = writer->AddLayer(
          layer, [&] { return fill; }, progress);
      if (!added.ok()) return added;
    }
    if (also) {
      if (absl::Status status = also(*writer); !status.ok()) return status;
    }
    return writer->Publish("name", scheme);
  }
  std::map<std::string, std::string> Files(const std::string& name) const {
    std::map<std::string, std::string> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(dir_ / name)) {
      files[entry.path().filename()] = ReadWholeFile(entry.path(), kAnyBytes).value();
    }
    return files;
  }

  fs::path dir_;
  TableSetWriterOptions options_;
};

// Each page of each shard, header page and padding included; also of rows whose blocks are not
// whole pages (of 2050 bytes: 128 rows, 64.06 pages), in shards that several units make.
TEST_F(TableSetWriterTest, WritesTheChecksumOfEachPage) {
  for (const uint32_t row_bytes : {10u, 320u, 2050u}) {
    fs::remove_all(dir_ / "set");
    options_.shard_bytes = row_bytes == 2050 ? 17u << 20 : 3u << 20;
    const Manifest manifest = WriteSet("set", row_bytes).value();
    for (const LayerTableSpec& layer : manifest.layers) {
      for (const ShardSpec& shard : layer.shards) {
        const std::string body = ReadSideFile(dir_ / "set" / PageChecksumsFile(shard),
                                              kPageChecksumsKind, manifest.id, kAnyBytes)
                                     .value();
        const std::string rows = ReadWholeFile(dir_ / "set" / shard.file, kAnyBytes).value();
        ASSERT_EQ(body.size(), shard.file_bytes / kShardPageBytes * 4);
        for (size_t page = 0; page * kShardPageBytes < rows.size(); ++page) {
          uint32_t word;
          std::memcpy(&word, body.data() + page * 4, 4);
          const auto* bytes = reinterpret_cast<const std::byte*>(rows.data());
          ASSERT_EQ(word, Crc32c({bytes + page * kShardPageBytes, kShardPageBytes}))
              << shard.file << " page " << page << " of rows of " << row_bytes;
        }
        const std::string checksums =
            ReadWholeFile(dir_ / "set" / shard.checksum_file, kAnyBytes).value();
        for (uint64_t block = 0; block < ShardBlocks(shard); ++block) {
          uint32_t word;
          std::memcpy(&word, checksums.data() + (1 + block) * 4, 4);
          const auto* bytes = reinterpret_cast<const std::byte*>(rows.data());
          ASSERT_EQ(word, Crc32c({bytes + BlockOffset(layer, shard, block),
                                  BlockBytes(layer, shard, block)}));
        }
      }
    }
  }
}

TEST_F(TableSetWriterTest, WritesNoPageChecksumsWhereNoneAreAsked) {
  const Manifest with = WriteSet("with", 320).value();
  options_.page_checksums = false;
  const Manifest without = WriteSet("without", 320).value();
  EXPECT_EQ(with.id, without.id);
  for (const auto& [name, text] : Files("without")) EXPECT_THAT(name, Not(EndsWith(".side")));
}

// The manifest of a set whose rows stay where they are is the one of the set that has them; so is
// every file but the shards themselves.
TEST_F(TableSetWriterTest, RowsThatStayLeaveEverythingElseAsItIs) {
  const Manifest manifest = WriteSet("packed", 320).value();
  options_.rows_stay = true;
  ASSERT_TRUE(WriteSet("linked", 320).ok());
  std::map<std::string, std::string> packed = Files("packed");
  ASSERT_GE(manifest.layers[0].shards.size(), 2u);
  for (const LayerTableSpec& layer : manifest.layers) {
    for (const ShardSpec& shard : layer.shards) EXPECT_EQ(packed.erase(shard.file), 1u);
  }
  EXPECT_TRUE(packed == Files("linked"));
}

TEST_F(TableSetWriterTest, WritesSideFilesForTheSetsId) {
  const auto add = [](TableSetWriter& writer) {
    return writer.AddSideFile("provenance.side", "provenance", "of somewhere");
  };
  const Manifest manifest = WriteSet("set", 320, add).value();
  EXPECT_EQ(ReadSideFile(dir_ / "set" / "provenance.side", "provenance", manifest.id, 100).value(),
            "of somewhere");
  EXPECT_EQ(WriteSet("other", 320).value().id, manifest.id);
}

TEST_F(TableSetWriterTest, RefusesANameThatNoSideFileHas) {
  for (const char* name : {"provenance", "../a.side", ".side"}) {
    const auto add = [&](TableSetWriter& writer) {
      return writer.AddSideFile(name, "provenance", "");
    };
    const absl::Status status = WriteSet("set", 320, add).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
  EXPECT_TRUE(fs::is_empty(dir_));
}

}  // namespace
}  // namespace engram
