// RocksDB: MultiGet from a block cache that holds everything, one sorted file, no compression.
//
// rocksdb_contender --directory DIR --layers L:ROWS,L:ROWS; fills a new database there first.
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/table.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/bench/compare/contender.h"

namespace engram::bench {
namespace {

constexpr size_t kCacheBytes = size_t{3} << 30;
constexpr size_t kKeysACommand = 1024;

absl::Status Said(const rocksdb::Status& status) {
  return status.ok() ? absl::OkStatus()
                     : absl::InternalError(absl::StrCat("RocksDB: ", status.ToString()));
}

// Keys are compared bytewise: big-endian ones are in order.
uint64_t Key(uint64_t number) { return __builtin_bswap64(number); }

rocksdb::Slice Slice(const uint64_t& key) {
  return {reinterpret_cast<const char*>(&key), sizeof(key)};
}

rocksdb::Options Options() {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(kCacheBytes);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.data_block_index_type = rocksdb::BlockBasedTableOptions::kDataBlockBinaryAndHash;
  rocksdb::Options options;
  options.create_if_missing = true;
  options.compression = rocksdb::kNoCompression;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

absl::StatusOr<std::unique_ptr<rocksdb::DB>> Fill(const std::string& directory,
                                                  const Layers& layers) {
  const rocksdb::Options options = Options();
  const std::string file = directory + "/rows.sst";
  rocksdb::SstFileWriter writer(rocksdb::EnvOptions(), options);
  rocksdb::Status status = writer.Open(file);
  std::array<std::byte, kRowBytes> row;
  for (uint64_t i = 0; status.ok() && i < TotalRows(layers); ++i) {
    FillRow(layers, i, absl::MakeSpan(row));
    const uint64_t key = Key(i);
    status = writer.Put(Slice(key), {reinterpret_cast<const char*>(row.data()), row.size()});
  }
  if (status.ok()) status = writer.Finish();
  rocksdb::DB* opened = nullptr;
  if (status.ok()) status = rocksdb::DB::Open(options, directory + "/db", &opened);
  std::unique_ptr<rocksdb::DB> db(opened);
  rocksdb::IngestExternalFileOptions ingest;
  ingest.move_files = true;
  if (status.ok()) status = db->IngestExternalFile({file}, ingest);
  if (!status.ok()) return Said(status);
  // Into the cache.
  const std::unique_ptr<rocksdb::Iterator> all(db->NewIterator(rocksdb::ReadOptions()));
  for (all->SeekToFirst(); all->Valid(); all->Next()) {
  }
  if (!all->status().ok()) return Said(all->status());
  return db;
}

class RocksLane final : public Lane {
 public:
  RocksLane(rocksdb::DB* db, const Layers& layers)
      : db_(db),
        layers_(layers),
        numbers_(kKeysACommand),
        keys_(kKeysACommand),
        values_(kKeysACommand),
        statuses_(kKeysACommand) {
    for (size_t i = 0; i < kKeysACommand; ++i) keys_[i] = Slice(numbers_[i]);
    options_.verify_checksums = false;
  }

  absl::Status Begin(size_t, const Batch& batch) override {
    for (size_t l = 0; l < kLayers; ++l) {
      for (uint64_t first = 0; first < batch.layer_rows(); first += kKeysACommand) {
        const size_t count = std::min<uint64_t>(kKeysACommand, batch.layer_rows() - first);
        absl::Status status = Take(batch, l, first, count);
        if (!status.ok()) return status;
      }
    }
    return absl::OkStatus();
  }
  absl::Status End(size_t, const Batch&) override { return absl::OkStatus(); }

 private:
  absl::Status Take(const Batch& batch, size_t l, uint64_t first, size_t count) {
    const uint64_t offset = l == 0 ? 0 : layers_[0].rows;
    for (size_t i = 0; i < count; ++i) numbers_[i] = Key(offset + batch.ids[l][first + i]);
    db_->MultiGet(options_, db_->DefaultColumnFamily(), count, keys_.data(), values_.data(),
                  statuses_.data());
    std::byte* to = batch.layer_landing(l) + first * kRowBytes;
    for (size_t i = 0; i < count; ++i, to += kRowBytes) {
      if (!statuses_[i].ok()) return Said(statuses_[i]);
      if (values_[i].size() != kRowBytes) return absl::DataLossError("RocksDB: a row's size");
      std::memcpy(to, values_[i].data(), kRowBytes);
      values_[i].Reset();
    }
    return absl::OkStatus();
  }

  rocksdb::DB* const db_;
  const Layers layers_;
  rocksdb::ReadOptions options_;
  std::vector<uint64_t> numbers_;
  std::vector<rocksdb::Slice> keys_;
  std::vector<rocksdb::PinnableSlice> values_;
  std::vector<rocksdb::Status> statuses_;
};

class RocksContender final : public Contender {
 public:
  RocksContender(std::unique_ptr<rocksdb::DB> db, const Layers& layers)
      : db_(std::move(db)), layers_(layers) {}
  absl::StatusOr<std::unique_ptr<Lane>> NewLane() override {
    return std::make_unique<RocksLane>(db_.get(), layers_);
  }

 private:
  const std::unique_ptr<rocksdb::DB> db_;
  const Layers layers_;
};

int Main(int argc, char** argv) {
  CLI::App app("RocksDB, for compare.py");
  std::string directory;
  std::string layers_text;
  app.add_option("--directory", directory, "an empty directory")->required();
  app.add_option("--layers", layers_text, "L:ROWS,L:ROWS")->required();
  CLI11_PARSE(app, argc, argv);
  const absl::StatusOr<Layers> layers = ParseLayers(layers_text);
  if (!layers.ok()) return Failed("rocksdb_contender", layers.status());
  absl::StatusOr<std::unique_ptr<rocksdb::DB>> db = Fill(directory, *layers);
  if (!db.ok()) return Failed("rocksdb_contender", db.status());
  Contenders contenders;
  contenders["rocksdb"] = std::make_unique<RocksContender>(*std::move(db), *layers);
  return ServeRounds("rocksdb_contender", std::move(contenders), *layers);
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) { return engram::bench::Main(argc, argv); }
