#include "memstore/store/table_set.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/sha256.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/side_file.h"
#include "memstore/table/side_files.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

using ::testing::HasSubstr;
using testing::SmallLayer;
using testing::SmallTableSet;
using testing::WriteSmallSideFiles;
using testing::WriteSmallTableSet;

class TableSetTest : public ::testing::Test {
 protected:
  TableSetTest()
      : directory_(absl::StrCat(::testing::TempDir(), "/table_set_",
                                ::testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  ~TableSetTest() override { std::filesystem::remove_all(directory_); }

  Manifest Write(const SmallTableSet& set) {
    absl::StatusOr<Manifest> manifest = WriteSmallTableSet(set, directory_);
    EXPECT_TRUE(manifest.ok()) << manifest.status();
    return *std::move(manifest);
  }

  absl::StatusOr<std::shared_ptr<const TableSet>> Load(const LoadOptions& options = {}) {
    return TableSet::Load(directory_, options);
  }

  std::string Path(const std::string& file) const { return directory_ + "/" + file; }

  // Changes one bit of a file, or changes it back.
  void Flip(const std::string& file, uint64_t at, int bit = 0) {
    std::fstream stream(Path(file), std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(static_cast<std::streamoff>(at));
    const char byte = static_cast<char>(stream.get() ^ (1 << bit));
    stream.seekp(static_cast<std::streamoff>(at));
    stream.put(byte);
    ASSERT_TRUE(stream.good()) << file << " at " << at;
  }

  uint64_t Bytes(const std::string& file) const { return std::filesystem::file_size(Path(file)); }

  const std::string directory_;
};

void ExpectAllRowsRight(const TableSet& set) {
  for (const LoadedLayer& loaded : set.layers()) {
    for (RowId row = 0; row < loaded.table.rows; ++row) {
      ASSERT_TRUE(IsSyntheticRow(
          loaded.layer, row,
          {loaded.table.base + row * loaded.table.row_bytes, loaded.table.row_bytes}))
          << "layer " << loaded.layer << ", row " << row;
    }
  }
}

LoadOptions WithThreads(uint32_t threads) {
  LoadOptions options;
  options.threads = threads;
  return options;
}

// Two layers, the second of several shards; block_rows 1000 makes blocks that begin within pages.
SmallTableSet TwoLayers() {
  return {.layers = {SmallLayer{.layer = 1, .row_bytes = 264, .rows = 5000},
                     SmallLayer{.layer = 14,
                                .row_bytes = 90,
                                .rows = 3 * 4096 + 77,
                                .shard_rows = 4096,
                                .block_rows = 1000}}};
}

TEST_F(TableSetTest, LoadsEveryRow) {
  const Manifest manifest = Write(TwoLayers());
  const auto set = Load();
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ((*set)->id(), manifest.id);
  EXPECT_EQ((*set)->name(), "small");
  EXPECT_EQ((*set)->directory(), directory_);
  ASSERT_EQ((*set)->layers().size(), 2u);
  ASSERT_NE((*set)->FindLayer(14), nullptr);
  EXPECT_EQ((*set)->FindLayer(14)->table.rows, 3 * 4096 + 77u);
  EXPECT_EQ((*set)->FindLayer(2), nullptr);
  EXPECT_GE((*set)->resident_bytes(), manifest.TableBytes());
  ExpectAllRowsRight(**set);
}

TEST_F(TableSetTest, LoadsOddWidthsAndBlocksWithAnyThreads) {
  for (const uint32_t row_bytes : {8u, 91u, 264u, 1001u, 4096u}) {
    for (const uint32_t block_rows : {1u, 7u, 512u, 2500u}) {
      SCOPED_TRACE(absl::StrCat(row_bytes, " bytes, blocks of ", block_rows));
      Write({.layers = {SmallLayer{
                 .row_bytes = row_bytes, .rows = 4097 + 600, .block_rows = block_rows}}});
      for (const uint32_t threads : {1u, 7u}) {
        const auto set = Load(WithThreads(threads));
        ASSERT_TRUE(set.ok()) << set.status();
        ExpectAllRowsRight(**set);
      }
    }
  }
}

// Long enough that one shard is read in several pieces.
TEST_F(TableSetTest, LoadsAShardOfManyPieces) {
  Write({.layers = {SmallLayer{.row_bytes = 1000,
                               .rows = 30000,
                               .shard_rows = uint64_t{5} * 4096,
                               .block_rows = 256}}});
  std::vector<LoadProgress> seen;
  LoadOptions options;
  options.on_progress = [&](const LoadProgress& progress) { seen.push_back(progress); };
  const auto set = Load(options);
  ASSERT_TRUE(set.ok()) << set.status();
  ExpectAllRowsRight(**set);

  ASSERT_GE(seen.size(), 2u);
  for (size_t i = 1; i < seen.size(); ++i) EXPECT_GE(seen[i].bytes_done, seen[i - 1].bytes_done);
  EXPECT_EQ(seen.back().bytes_done, seen.back().bytes_total);
  EXPECT_GE(seen.back().bytes_total, 30000u * 1000);
}

TEST_F(TableSetTest, LoadsWithEveryKindOfPage) {
  Write(TwoLayers());
  LoadOptions options;
  options.arena.try_hugetlb = false;
  for (const bool transparent : {false, true}) {
    options.arena.try_transparent_huge = transparent;
    const auto set = Load(options);
    ASSERT_TRUE(set.ok()) << set.status();
    EXPECT_TRUE(transparent || (*set)->page_kind() == PageKind::kSmall);
    // What the kernel counts is in whole pages, which the last layer's rows need not fill.
    const ResidentPages& pages = (*set)->loaded_pages();
    EXPECT_GE(pages.Total(), (*set)->manifest().TableBytes());
    EXPECT_LE(pages.Total(), (*set)->resident_bytes());
    EXPECT_EQ(pages.hugetlb, 0u);
    if (!transparent) {
      EXPECT_EQ(pages.transparent_huge, 0u);
    }
    EXPECT_EQ((*set)->page_ranges().size(), (*set)->layers().size());
    ExpectAllRowsRight(**set);
  }
}

// A memory file system, where direct I/O may be refused.
TEST_F(TableSetTest, LoadsFromAMemoryFileSystem) {
  if (!std::filesystem::is_directory("/dev/shm")) GTEST_SKIP() << "there is no /dev/shm";
  Write(TwoLayers());
  const std::string copy = "/dev/shm/" + std::filesystem::path(directory_).filename().string() +
                           std::to_string(getpid());
  std::filesystem::copy(directory_, copy);
  const auto set = TableSet::Load(copy, {});
  std::filesystem::remove_all(copy);
  ASSERT_TRUE(set.ok()) << set.status();
  ExpectAllRowsRight(**set);
}

TEST_F(TableSetTest, ItsTokenMapIsLoadedAndItsAddresserWorks) {
  Write({.with_token_map = true});
  const auto set = Load();
  ASSERT_TRUE(set.ok()) << set.status();
  RowId row = 0;
  const LayerRowIdsOutput output{0, &row, 1};
  const int32_t token = 17;
  ASSERT_TRUE((*set)->addresser().Address(Addresser::Start(), {&token, 1}, {}, {&output, 1}).ok());
  EXPECT_EQ(row, 7 * 3u ^ 0 * 5u);  // id 17 is compressed to 7; before it stands the pad, 0
}

TEST_F(TableSetTest, ItsAddresserMakesStatesOfItsSet) {
  const Manifest manifest = Write({});
  const auto set = Load();
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ((*set)->addresser().set(), ShortSetId::Of(manifest.id));
  EXPECT_FALSE((*set)->addresser().set().is_none());
}

TEST_F(TableSetTest, ItsAddresserRefusesTheImagesOfItsSideFile) {
  Write({.dead_positions = true, .image_token_ids = {98}});
  const auto set = Load();
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_THAT((*set)->addresser().image_token_ids(), ::testing::ElementsAre(98));
  const Addresser& taking = (*set)->image_taking_addresser();
  EXPECT_TRUE(taking.image_token_ids().empty());
  EXPECT_EQ(taking.set(), (*set)->addresser().set());
  EXPECT_EQ(taking.token_map(), (*set)->addresser().token_map());
  // Where there is nothing to refuse there is one.
  for (const SmallTableSet& none :
       {SmallTableSet{.dead_positions = true}, SmallTableSet{.image_token_ids = {98}}}) {
    Write(none);
    const auto plain = Load();
    ASSERT_TRUE(plain.ok()) << plain.status();
    EXPECT_EQ(&(*plain)->addresser(), &(*plain)->image_taking_addresser());
    EXPECT_TRUE((*plain)->addresser().image_token_ids().empty());
  }
}

// Small tables are not measured (gather_tuning_test.cc has those that are).
TEST_F(TableSetTest, SaysHowItsRowsAreGathered) {
  SmallTableSet three = TwoLayers();
  three.layers.push_back(three.layers[0]);
  three.layers.back().layer = three.layers[1].layer + 1;
  Write(three);
  const auto set = Load();
  ASSERT_TRUE(set.ok()) << set.status();
  const std::vector<WidthCalibration>& widths = (*set)->calibrations();
  ASSERT_EQ(widths.size(), 2u);
  for (size_t i = 0; i < 3; ++i) {
    const GatherTable& table = (*set)->layers()[i].table;
    EXPECT_EQ(widths[i % 2].row_bytes, table.row_bytes);
    EXPECT_EQ(widths[i % 2].gather.ahead_rows, table.ahead_rows);
    EXPECT_EQ(widths[i % 2].gather.source, GatherCalibration::Source::kDefault);
    EXPECT_GT(table.ahead_rows, 0u);
  }
  LoadOptions options;
  options.gather_ahead_rows = 40;
  const auto given = Load(options);
  ASSERT_TRUE(given.ok()) << given.status();
  for (const LoadedLayer& loaded : (*given)->layers()) EXPECT_EQ(loaded.table.ahead_rows, 40u);
  EXPECT_EQ((*given)->calibrations()[0].gather.source, GatherCalibration::Source::kGiven);
  ExpectAllRowsRight(**given);
}

TEST_F(TableSetTest, TwoSetsLiveSideBySide) {
  Write({.name = "first"});
  const auto first = Load();
  ASSERT_TRUE(first.ok()) << first.status();
  Write({.name = "second", .layers = {SmallLayer{.layer = 3, .row_bytes = 128}}});
  const auto second = Load();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_NE((*first)->id(), (*second)->id());
  ExpectAllRowsRight(**first);
  ExpectAllRowsRight(**second);
}

// One bit anywhere in a shard: header page, first and last row, block borders, padding.
TEST_F(TableSetTest, AFlippedBitInAnyShardIsFoundAndNamed) {
  const Manifest manifest = Write(TwoLayers());
  for (const LayerTableSpec& layer : manifest.layers) {
    for (const ShardSpec& shard : layer.shards) {
      const uint64_t rows_end = kShardHeaderBytes + shard.rows * layer.row_bytes;
      std::vector<uint64_t> places = {0, 63, 64, 4095, 4096, rows_end - 1, shard.file_bytes - 1};
      for (uint64_t block = 0; block < ShardBlocks(shard); ++block) {
        places.push_back(BlockOffset(layer, shard, block));
        places.push_back(BlockOffset(layer, shard, block) + BlockBytes(layer, shard, block) - 1);
      }
      for (const uint64_t at : places) {
        Flip(shard.file, at, at % 8);
        const absl::Status status = Load().status();
        EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << shard.file << " at " << at;
        EXPECT_THAT(status.message(), HasSubstr(shard.file));
        EXPECT_THAT(status.message(), HasSubstr(at < kShardHeaderBytes ? "header" : "block"));
        Flip(shard.file, at, at % 8);
      }
    }
  }
  EXPECT_TRUE(Load().ok());
}

TEST_F(TableSetTest, AFlippedBitInAnyOtherFileIsFoundAndNamed) {
  SmallTableSet shape = TwoLayers();
  shape.with_token_map = true;
  const Manifest manifest = Write(shape);
  std::vector<std::string> files = {kManifestFile, kManifestDigestFile, kTokenMapFile};
  for (const LayerTableSpec& layer : manifest.layers) {
    for (const ShardSpec& shard : layer.shards) files.push_back(shard.checksum_file);
  }
  for (const std::string& file : files) {
    for (const uint64_t at : {uint64_t{0}, Bytes(file) / 2, Bytes(file) - 1}) {
      Flip(file, at, 1);
      const absl::Status status = Load().status();
      EXPECT_EQ(status.code(), file == kTokenMapFile ? absl::StatusCode::kFailedPrecondition
                                                     : absl::StatusCode::kDataLoss)
          << file << " at " << at << ": " << status;
      EXPECT_THAT(status.message(), HasSubstr(directory_));
      Flip(file, at, 1);
    }
  }
  EXPECT_TRUE(Load().ok());
}

// Whatever the threads' timing, the same place is named.
TEST_F(TableSetTest, OfSeveralWrongBlocksTheFirstIsNamed) {
  const Manifest manifest = Write(
      {.layers = {SmallLayer{.row_bytes = 1000, .rows = 40000, .shard_rows = uint64_t{5} * 4096}}});
  const LayerTableSpec& layer = manifest.layers[0];
  for (const uint64_t block : {uint64_t{9}, uint64_t{12}, uint64_t{39}}) {
    Flip(layer.shards[0].file, BlockOffset(layer, layer.shards[0], block) + 11);
  }
  Flip(layer.shards[1].file, BlockOffset(layer, layer.shards[1], 0));
  for (int round = 0; round < 20; ++round) {
    const absl::Status status = Load(WithThreads(8)).status();
    ASSERT_EQ(status.code(), absl::StatusCode::kDataLoss);
    ASSERT_THAT(status.message(), HasSubstr("layer1-0.rows: block 9 (bytes 4612096..5124095, rows "
                                            "4608..5119 of layer 1)"));
  }
}

TEST_F(TableSetTest, AShardOfTheWrongLengthIsRefused) {
  const Manifest manifest = Write(TwoLayers());
  const ShardSpec& shard = manifest.layers[1].shards[3];
  for (const int64_t change : {-1, -4096, +1, +4096}) {
    std::filesystem::resize_file(Path(shard.file), shard.file_bytes + change);
    const absl::Status status = Load().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(status.message(), HasSubstr(shard.file));
    EXPECT_THAT(status.message(), HasSubstr(absl::StrCat(shard.file_bytes)));
    EXPECT_THAT(status.message(), HasSubstr(change < 0 ? "cut off" : "added to"));
  }
}

TEST_F(TableSetTest, AHeaderOfAnotherLayerIsRefusedThoughItsChecksumIsRight) {
  SmallLayer layer;
  layer.foreign_headers = true;
  Write({.layers = {layer}});
  const absl::Status status = Load().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(status.message(), HasSubstr("header"));
}

TEST_F(TableSetTest, AMissingFileIsNamed) {
  const Manifest manifest = Write({.with_token_map = true});
  const ShardSpec& shard = manifest.layers[0].shards[1];
  for (const std::string& file :
       {shard.file, shard.checksum_file, std::string(kTokenMapFile), std::string(kManifestFile)}) {
    std::filesystem::rename(Path(file), Path("aside"));
    const absl::Status status = Load().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
    EXPECT_THAT(status.message(), HasSubstr(directory_));
    std::filesystem::rename(Path("aside"), Path(file));
  }
  EXPECT_TRUE(Load().ok());
}

TEST_F(TableSetTest, SaysWhatItsSideFilesSay) {
  const Manifest manifest = Write(TwoLayers());
  EXPECT_FALSE(Load().value()->side_files().provenance.has_value());
  ASSERT_TRUE(WriteSmallSideFiles(manifest, "maker/model", directory_, directory_).ok());
  const std::shared_ptr<const TableSet> set = Load().value();
  EXPECT_EQ(set->side_files().provenance->repository, "maker/model");
  EXPECT_EQ(set->side_files().image_token_ids, (std::vector<int32_t>{7, 9}));
  EXPECT_TRUE(set->side_files().page_checksums);
}

// In either directory, and though this load needs none of them.
TEST_F(TableSetTest, ADamagedSideFileIsRefusedByName) {
  const Manifest manifest = Write({});
  const std::string state = directory_ + "_state";
  std::filesystem::create_directory(state);
  LoadOptions options;
  options.side_file_directory = state;
  for (const std::string& side : {directory_, state}) {
    ASSERT_TRUE(WriteSmallSideFiles(manifest, "maker/model", directory_, side).ok());
    ASSERT_TRUE(Load(options).ok()) << Load(options).status();
    for (const std::string& name : SideFileNames(manifest)) {
      const std::string file = side + "/" + name;
      if (!std::filesystem::exists(file)) continue;
      const uint64_t bytes = std::filesystem::file_size(file);
      const auto expect_refused = [&](absl::StatusCode code) {
        const absl::Status status = Load(options).status();
        EXPECT_EQ(status.code(), code) << file << ": " << status;
        EXPECT_THAT(status.message(), HasSubstr(file));
        EXPECT_THAT(status.message(), HasSubstr("may be deleted"));
      };
      const std::string aside = directory_ + "_aside";
      std::filesystem::copy_file(file, aside, std::filesystem::copy_options::overwrite_existing);
      std::filesystem::resize_file(file, bytes - 1);
      expect_refused(absl::StatusCode::kDataLoss);
      std::filesystem::resize_file(file, bytes);  // its last byte is zero now
      expect_refused(absl::StatusCode::kDataLoss);
      std::filesystem::resize_file(file, 0);
      expect_refused(absl::StatusCode::kDataLoss);
      std::filesystem::remove(file);
      EXPECT_TRUE(Load(options).ok()) << "it is absent";
      ASSERT_TRUE(WriteSideFile(file, "provenance", Sha256Hex("another set"), "").ok());
      expect_refused(name == kProvenanceFile ? absl::StatusCode::kFailedPrecondition
                                             : absl::StatusCode::kDataLoss);
      std::filesystem::rename(aside, file);
    }
  }
  std::filesystem::remove_all(state);
}

TEST_F(TableSetTest, AFileThatDoesNotBelongIsRefused) {
  Write({});
  std::ofstream(Path("extra")) << "";
  const absl::Status status = Load().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(status.message(), HasSubstr(Path("extra")));
  std::filesystem::remove(Path("extra"));
  EXPECT_TRUE(Load().ok());
}

// What a link points to can change under a set that never does.
TEST_F(TableSetTest, ALinkInAFilesPlaceIsRefused) {
  const Manifest manifest = Write({.with_token_map = true});
  const ShardSpec& shard = manifest.layers[0].shards[0];
  const std::string away = directory_ + "_away";
  for (const std::string& file : {shard.file, shard.checksum_file, std::string(kTokenMapFile)}) {
    std::filesystem::rename(Path(file), away);
    std::filesystem::create_symlink(away, Path(file));
    const absl::Status status = Load().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(status.message(), HasSubstr(Path(file)));
    std::filesystem::remove(Path(file));
    std::filesystem::rename(away, Path(file));
  }
}

// Counted while they load: of a set of many shards a few are open, whatever their number.
TEST_F(TableSetTest, OpensFewShardsAtATime) {
  constexpr uint32_t kThreads = 4;
  constexpr size_t kShards = 200;
  const auto open_files = [] {
    return static_cast<size_t>(
        std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
  };
  Write({.layers = {SmallLayer{.row_bytes = 8, .rows = kShards * 4096, .shard_rows = 4096}}});
  const size_t before = open_files();
  size_t most = 0;
  LoadOptions options = WithThreads(kThreads);
  options.on_progress = [&](const LoadProgress&) { most = std::max(most, open_files()); };
  ASSERT_TRUE(Load(options).ok());
  EXPECT_GT(most, 0u);
  EXPECT_LE(most, before + 2 * kThreads + 2);  // a shard and its checksums each
  EXPECT_EQ(open_files(), before);
}

TEST_F(TableSetTest, AMissingDirectoryIsNamed) {
  const absl::Status status = Load().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
  EXPECT_THAT(status.message(), HasSubstr(directory_));
}

TEST_F(TableSetTest, AShardThatIsNoFileIsRefused) {
  const Manifest manifest = Write({});
  std::filesystem::remove(Path(manifest.layers[0].shards[0].file));
  std::filesystem::create_directory(Path(manifest.layers[0].shards[0].file));
  const absl::Status status = Load().status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message(), HasSubstr(manifest.layers[0].shards[0].file));
}

TEST_F(TableSetTest, ANumaNodeThatIsNotThereIsRefused) {
  Write({});
  LoadOptions options;
  options.arena.numa = {NumaPolicy::Kind::kBind, 4095};
  EXPECT_EQ(Load(options).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace engram
