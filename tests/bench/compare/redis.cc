// Redis: MGET through hiredis, several commands of a batch and several batches in one pipeline.
//
// redis_contender --socket PATH --layers L:ROWS,L:ROWS; fills the server first. Keys are 8 bytes.
#include <hiredis/hiredis.h>

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

// Keys of one MGET: the server sends an answer while the next command is still coming.
constexpr size_t kKeysACommand = 1024;

struct FreeContext {
  void operator()(redisContext* context) const { redisFree(context); }
};
struct FreeReply {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using Context = std::unique_ptr<redisContext, FreeContext>;
using Reply = std::unique_ptr<redisReply, FreeReply>;

absl::StatusOr<Context> Connect(const std::string& socket) {
  Context context(redisConnectUnix(socket.c_str()));
  if (context == nullptr) return absl::ResourceExhaustedError("no memory for a connection");
  if (context->err != 0) return absl::UnavailableError(context->errstr);
  return context;
}

absl::StatusOr<Reply> NextReply(redisContext* context) {
  void* reply = nullptr;
  if (redisGetReply(context, &reply) != REDIS_OK) return absl::UnavailableError(context->errstr);
  Reply owned(static_cast<redisReply*>(reply));
  if (owned->type == REDIS_REPLY_ERROR) return absl::InternalError(owned->str);
  return owned;
}

absl::Status Fill(const std::string& socket, const Layers& layers) {
  absl::StatusOr<Context> context = Connect(socket);
  if (!context.ok()) return context.status();
  std::vector<uint64_t> keys(kKeysACommand);
  std::vector<std::byte> rows(kKeysACommand * kRowBytes);
  for (uint64_t first = 0; first < TotalRows(layers); first += kKeysACommand) {
    const size_t count = std::min<uint64_t>(kKeysACommand, TotalRows(layers) - first);
    std::vector<const char*> words = {"MSET"};
    std::vector<size_t> sizes = {4};
    for (size_t i = 0; i < count; ++i) {
      keys[i] = first + i;
      FillRow(layers, keys[i], {&rows[i * kRowBytes], kRowBytes});
      words.insert(words.end(), {reinterpret_cast<const char*>(&keys[i]),
                                 reinterpret_cast<const char*>(&rows[i * kRowBytes])});
      sizes.insert(sizes.end(), {sizeof(uint64_t), kRowBytes});
    }
    redisAppendCommandArgv(context->get(), static_cast<int>(words.size()), words.data(),
                           sizes.data());
    const absl::StatusOr<Reply> reply = NextReply(context->get());
    if (!reply.ok()) return reply.status();
  }
  return absl::OkStatus();
}

class RedisLane final : public Lane {
 public:
  RedisLane(Context context, const Layers& layers)
      : context_(std::move(context)),
        layers_(layers),
        keys_(kKeysACommand),
        words_(1 + kKeysACommand),
        sizes_(1 + kKeysACommand, sizeof(uint64_t)) {
    words_[0] = "MGET";
    sizes_[0] = 4;
    for (size_t i = 0; i < kKeysACommand; ++i) {
      words_[1 + i] = reinterpret_cast<const char*>(&keys_[i]);
    }
  }

  absl::Status Begin(size_t, const Batch& batch) override {
    for (size_t l = 0; l < kLayers; ++l) {
      const uint64_t offset = l == 0 ? 0 : layers_[0].rows;
      for (uint64_t first = 0; first < batch.layer_rows(); first += kKeysACommand) {
        const size_t count = std::min<uint64_t>(kKeysACommand, batch.layer_rows() - first);
        for (size_t i = 0; i < count; ++i) keys_[i] = offset + batch.ids[l][first + i];
        redisAppendCommandArgv(context_.get(), static_cast<int>(1 + count), words_.data(),
                               sizes_.data());
      }
    }
    // On its way at once; what does not fit into the socket goes with the next call.
    int done = 0;
    if (redisBufferWrite(context_.get(), &done) == REDIS_OK) return absl::OkStatus();
    return absl::UnavailableError(context_->errstr);
  }
  absl::Status End(size_t, const Batch& batch) override {
    for (size_t l = 0; l < kLayers; ++l) {
      std::byte* row = batch.layer_landing(l);
      for (uint64_t first = 0; first < batch.layer_rows();) {
        const absl::StatusOr<Reply> reply = NextReply(context_.get());
        if (!reply.ok()) return reply.status();
        for (size_t i = 0; i < (*reply)->elements; ++i, row += kRowBytes) {
          const redisReply& value = *(*reply)->element[i];
          if (value.type != REDIS_REPLY_STRING || value.len != kRowBytes) {
            return absl::DataLossError("Redis lacks a row: is its memory bounded?");
          }
          std::memcpy(row, value.str, kRowBytes);
        }
        first += (*reply)->elements;
        if ((*reply)->elements == 0) return absl::InternalError("Redis sent no array");
      }
    }
    return absl::OkStatus();
  }

 private:
  const Context context_;
  const Layers layers_;
  std::vector<uint64_t> keys_;
  std::vector<const char*> words_;
  std::vector<size_t> sizes_;
};

class RedisContender final : public Contender {
 public:
  RedisContender(std::string socket, const Layers& layers)
      : socket_(std::move(socket)), layers_(layers) {}
  absl::StatusOr<std::unique_ptr<Lane>> NewLane() override {
    absl::StatusOr<Context> context = Connect(socket_);
    if (!context.ok()) return context.status();
    return std::make_unique<RedisLane>(*std::move(context), layers_);
  }

 private:
  const std::string socket_;
  const Layers layers_;
};

int Main(int argc, char** argv) {
  CLI::App app("Redis, for compare.py");
  std::string socket;
  std::string layers_text;
  app.add_option("--socket", socket, "the server's Unix socket")->required();
  app.add_option("--layers", layers_text, "L:ROWS,L:ROWS")->required();
  CLI11_PARSE(app, argc, argv);
  const absl::StatusOr<Layers> layers = ParseLayers(layers_text);
  if (!layers.ok()) return Failed("redis_contender", layers.status());
  if (absl::Status status = Fill(socket, *layers); !status.ok()) {
    return Failed("redis_contender", status);
  }
  Contenders contenders;
  contenders["redis"] = std::make_unique<RedisContender>(socket, *layers);
  return ServeRounds("redis_contender", std::move(contenders), *layers);
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) { return engram::bench::Main(argc, argv); }
