// LMDB: a get for each row in one read transaction a batch, the file in the page cache.
//
// lmdb_contender --directory DIR --layers L:ROWS,L:ROWS; fills a new environment there first.
#include <lmdb.h>

#include <CLI/CLI.hpp>
#include <cstring>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/bench/compare/contender.h"

namespace engram::bench {
namespace {

// Address space: rows, keys and half-filled pages.
constexpr size_t kMapBytes = size_t{8} << 30;

absl::Status Said(int code) {
  if (code == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("LMDB: ", mdb_strerror(code)));
}

class Environment {
 public:
  ~Environment() { mdb_env_close(environment_); }

  absl::Status Open(const std::string& directory) {
    int code = mdb_env_create(&environment_);
    if (code == 0) code = mdb_env_set_mapsize(environment_, kMapBytes);
    // No read-ahead: rows are far apart. Nothing outlives the run, so nothing is synced.
    const unsigned flags = MDB_NORDAHEAD | MDB_NOSYNC | MDB_NOTLS;
    if (code == 0) code = mdb_env_open(environment_, directory.c_str(), flags, 0600);
    return Said(code);
  }
  absl::Status Fill(const Layers& layers) {
    MDB_txn* transaction = nullptr;
    int code = mdb_txn_begin(environment_, nullptr, 0, &transaction);
    if (code == 0) code = mdb_dbi_open(transaction, nullptr, MDB_INTEGERKEY | MDB_CREATE, &rows_);
    for (uint64_t key = 0; code == 0 && key < TotalRows(layers); ++key) {
      MDB_val name{sizeof(key), &key};
      MDB_val row{kRowBytes, nullptr};
      code = mdb_put(transaction, rows_, &name, &row, MDB_APPEND | MDB_RESERVE);
      if (code == 0) FillRow(layers, key, {static_cast<std::byte*>(row.mv_data), kRowBytes});
    }
    return Said(code == 0 ? mdb_txn_commit(transaction) : code);
  }
  // Maps every page: the kernel would do it row by row, within the clock.
  absl::Status Warm() {
    MDB_txn* transaction = nullptr;
    MDB_cursor* cursor = nullptr;
    int code = mdb_txn_begin(environment_, nullptr, MDB_RDONLY, &transaction);
    if (code != 0) return Said(code);
    code = mdb_cursor_open(transaction, rows_, &cursor);
    MDB_val key;
    MDB_val row;
    while (code == 0) {
      code = mdb_cursor_get(cursor, &key, &row, MDB_NEXT);
      if (code == 0) touched_ = *static_cast<const volatile std::byte*>(row.mv_data);
    }
    if (cursor != nullptr) mdb_cursor_close(cursor);
    mdb_txn_abort(transaction);
    return code == MDB_NOTFOUND ? absl::OkStatus() : Said(code);
  }
  MDB_env* get() const { return environment_; }
  MDB_dbi rows() const { return rows_; }

 private:
  MDB_env* environment_ = nullptr;
  MDB_dbi rows_ = 0;
  std::byte touched_ = {};
};

class LmdbLane final : public Lane {
 public:
  LmdbLane(const Environment* environment, const Layers& layers)
      : environment_(*environment), layers_(layers) {}
  ~LmdbLane() override { mdb_txn_abort(transaction_); }

  absl::Status Begin(size_t, const Batch& batch) override {
    int code = transaction_ == nullptr
                   ? mdb_txn_begin(environment_.get(), nullptr, MDB_RDONLY, &transaction_)
                   : mdb_txn_renew(transaction_);
    if (code != 0) return Said(code);
    for (size_t l = 0; code == 0 && l < kLayers; ++l) {
      const uint64_t offset = l == 0 ? 0 : layers_[0].rows;
      std::byte* to = batch.layer_landing(l);
      for (uint64_t i = 0; code == 0 && i < batch.layer_rows(); ++i, to += kRowBytes) {
        uint64_t key = offset + batch.ids[l][i];
        MDB_val name{sizeof(key), &key};
        MDB_val row;
        code = mdb_get(transaction_, environment_.rows(), &name, &row);
        if (code == 0) std::memcpy(to, row.mv_data, kRowBytes);
      }
    }
    mdb_txn_reset(transaction_);
    return Said(code);
  }
  absl::Status End(size_t, const Batch&) override { return absl::OkStatus(); }

 private:
  const Environment& environment_;
  const Layers layers_;
  MDB_txn* transaction_ = nullptr;
};

class LmdbContender final : public Contender {
 public:
  LmdbContender(std::unique_ptr<Environment> environment, const Layers& layers)
      : environment_(std::move(environment)), layers_(layers) {}
  absl::StatusOr<std::unique_ptr<Lane>> NewLane() override {
    return std::make_unique<LmdbLane>(environment_.get(), layers_);
  }

 private:
  const std::unique_ptr<Environment> environment_;
  const Layers layers_;
};

int Main(int argc, char** argv) {
  CLI::App app("LMDB, for compare.py");
  std::string directory;
  std::string layers_text;
  app.add_option("--directory", directory, "an empty directory")->required();
  app.add_option("--layers", layers_text, "L:ROWS,L:ROWS")->required();
  CLI11_PARSE(app, argc, argv);
  const absl::StatusOr<Layers> layers = ParseLayers(layers_text);
  if (!layers.ok()) return Failed("lmdb_contender", layers.status());
  auto environment = std::make_unique<Environment>();
  absl::Status status = environment->Open(directory);
  if (status.ok()) status = environment->Fill(*layers);
  if (status.ok()) status = environment->Warm();
  if (!status.ok()) return Failed("lmdb_contender", status);
  Contenders contenders;
  contenders["lmdb"] = std::make_unique<LmdbContender>(std::move(environment), *layers);
  return ServeRounds("lmdb_contender", std::move(contenders), *layers);
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) { return engram::bench::Main(argc, argv); }
