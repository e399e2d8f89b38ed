// memcached: multiget through libmemcached, a connection for each batch in flight.
//
// memcached_contender --socket PATH --layers L:ROWS,L:ROWS; fills the server first.
#include <libmemcached/memcached.h>

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

// Keys of one multiget: a batch of 16 tokens in one, and no buffer of either side grows.
constexpr size_t kKeysACommand = 1024;
// Keys are 8 hexadecimal digits: the protocol has no binary ones.
constexpr size_t kKeyBytes = 8;

struct FreeConnection {
  void operator()(memcached_st* connection) const { memcached_free(connection); }
};
using Connection = std::unique_ptr<memcached_st, FreeConnection>;

void WriteKey(uint64_t key, char* text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  for (size_t i = 0; i < kKeyBytes; ++i, key >>= 4) text[kKeyBytes - 1 - i] = kDigits[key & 15];
}

absl::Status Said(memcached_st* connection, memcached_return_t code) {
  return absl::UnavailableError(absl::StrCat("memcached: ", memcached_strerror(connection, code)));
}

absl::StatusOr<Connection> Connect(const std::string& socket) {
  const std::string options = absl::StrCat("--SOCKET=\"", socket, "\"");
  Connection connection(memcached(options.c_str(), options.size()));
  if (connection == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("libmemcached does not take ", options));
  }
  return connection;
}

absl::Status Fill(const std::string& socket, const Layers& layers) {
  absl::StatusOr<Connection> connection = Connect(socket);
  if (!connection.ok()) return connection.status();
  // Sent without waiting for each answer; a row that is missing is found when it is read.
  memcached_behavior_set(connection->get(), MEMCACHED_BEHAVIOR_NOREPLY, 1);
  memcached_behavior_set(connection->get(), MEMCACHED_BEHAVIOR_BUFFER_REQUESTS, 1);
  std::array<char, kKeyBytes> key;
  std::array<std::byte, kRowBytes> row;
  for (uint64_t i = 0; i < TotalRows(layers); ++i) {
    WriteKey(i, key.data());
    FillRow(layers, i, absl::MakeSpan(row));
    const memcached_return_t code =
        memcached_set(connection->get(), key.data(), key.size(),
                      reinterpret_cast<const char*>(row.data()), row.size(), 0, 0);
    if (!memcached_success(code)) return Said(connection->get(), code);
  }
  const memcached_return_t code = memcached_flush_buffers(connection->get());
  return memcached_success(code) ? absl::OkStatus() : Said(connection->get(), code);
}

class MemcachedLane final : public Lane {
 public:
  MemcachedLane(std::string socket, const Layers& layers)
      : socket_(std::move(socket)), layers_(layers), sizes_(kKeysACommand, kKeyBytes) {}

  absl::Status Begin(size_t slot, const Batch& batch) override {
    if (connections_[slot] == nullptr) {
      absl::StatusOr<Connection> connection = Connect(socket_);
      if (!connection.ok()) return connection.status();
      connections_[slot] = *std::move(connection);
      memcached_result_create(connections_[slot].get(), &results_[slot]);
    }
    return Ask(slot, batch, 0);
  }
  absl::Status End(size_t slot, const Batch& batch) override {
    const uint64_t rows = batch.tokens * kTokenRows;
    for (uint64_t first = 0; first < rows; first += kKeysACommand) {
      if (first > 0) {
        if (absl::Status status = Ask(slot, batch, first); !status.ok()) return status;
      }
      const uint64_t count = std::min<uint64_t>(kKeysACommand, rows - first);
      if (absl::Status status = Take(slot, batch, first, count); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

 private:
  // Both layers' rows are counted on: layer after layer, as they land.
  uint64_t Key(const Batch& batch, uint64_t i) const {
    return i < batch.layer_rows() ? batch.ids[0][i]
                                  : layers_[0].rows + batch.ids[1][i - batch.layer_rows()];
  }
  absl::Status Ask(size_t slot, const Batch& batch, uint64_t first) {
    const size_t count = std::min<uint64_t>(kKeysACommand, batch.tokens * kTokenRows - first);
    for (size_t i = 0; i < count; ++i) {
      WriteKey(Key(batch, first + i), keys_[i].data());
      words_[i] = keys_[i].data();
    }
    const memcached_return_t code =
        memcached_mget(connections_[slot].get(), words_.data(), sizes_.data(), count);
    return memcached_success(code) ? absl::OkStatus() : Said(connections_[slot].get(), code);
  }
  // Answers come in the order of the keys, those that are not there left out.
  absl::Status Take(size_t slot, const Batch& batch, uint64_t first, uint64_t count) {
    std::byte* row = batch.landing + first * kRowBytes;
    memcached_return_t code = MEMCACHED_SUCCESS;
    for (uint64_t taken = 0;; ++taken, row += kRowBytes) {
      const memcached_result_st* const result =
          memcached_fetch_result(connections_[slot].get(), &results_[slot], &code);
      if (result == nullptr) {
        if (taken == count) return absl::OkStatus();
        return absl::DataLossError(absl::StrCat("memcached sent ", taken, " of ", count,
                                                " rows: has it the memory for all?"));
      }
      if (taken == count || memcached_result_length(result) != kRowBytes) {
        return absl::DataLossError("memcached sent what is no row that was asked for");
      }
      std::memcpy(row, memcached_result_value(result), kRowBytes);
    }
  }

  const std::string socket_;
  const Layers layers_;
  std::array<Connection, kMaxInFlight> connections_;
  std::array<memcached_result_st, kMaxInFlight> results_;  // freed with their connections
  std::array<std::array<char, kKeyBytes>, kKeysACommand> keys_;
  std::array<const char*, kKeysACommand> words_;
  std::vector<size_t> sizes_;
};

class MemcachedContender final : public Contender {
 public:
  MemcachedContender(std::string socket, const Layers& layers)
      : socket_(std::move(socket)), layers_(layers) {}
  absl::StatusOr<std::unique_ptr<Lane>> NewLane() override {
    return std::make_unique<MemcachedLane>(socket_, layers_);
  }

 private:
  const std::string socket_;
  const Layers layers_;
};

int Main(int argc, char** argv) {
  CLI::App app("memcached, for compare.py");
  std::string socket;
  std::string layers_text;
  app.add_option("--socket", socket, "the server's Unix socket")->required();
  app.add_option("--layers", layers_text, "L:ROWS,L:ROWS")->required();
  CLI11_PARSE(app, argc, argv);
  const absl::StatusOr<Layers> layers = ParseLayers(layers_text);
  if (!layers.ok()) return Failed("memcached_contender", layers.status());
  if (absl::Status status = Fill(socket, *layers); !status.ok()) {
    return Failed("memcached_contender", status);
  }
  Contenders contenders;
  contenders["memcached"] = std::make_unique<MemcachedContender>(socket, *layers);
  return ServeRounds("memcached_contender", std::move(contenders), *layers);
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) { return engram::bench::Main(argc, argv); }
