// For tests of what speaks to an engramd over gRPC: a server of the test's own that can be told to
// misbehave, and a batch of two layers to ask it for.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/transport/grpc/grpc_transport.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"
#include "proto/engram/v1/lookup.grpc.pb.h"

namespace engram::testing {

// What tests fill landing buffers with, to see what was written.
inline constexpr std::byte kUntouched{0xA5};

class FakeLookupServer final : public v1::Lookup::Service {
 public:
  explicit FakeLookupServer(Manifest manifest) : manifest_(std::move(manifest)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeLookupServer() override {
    Open();
    server_->Shutdown(std::chrono::system_clock::now());
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  void Stop() { server_->Shutdown(std::chrono::system_clock::now()); }
  // Lookups wait until Open, or until they are cancelled.
  void Close() { closed_ = true; }
  void Open() { closed_ = false; }
  int attaches() const { return attaches_; }
  int calls() const { return calls_; }
  int cancelled() const { return cancelled_; }
  uint64_t rows_sent() const { return rows_sent_; }
  // What the last unary call proved itself by.
  std::string last_token() const {
    const std::lock_guard<std::mutex> lock(token_mutex_);
    return last_token_;
  }

  v1::AttachRequest last_attach() const {
    const std::lock_guard<std::mutex> lock(token_mutex_);
    return last_attach_;
  }

  std::function<void(v1::AttachResponse*)> on_attach = [](auto*) {};
  std::function<grpc::Status(v1::LookupResponse*)> on_lookup = [](auto*) {
    return grpc::Status::OK;
  };
  uint64_t max_reply_bytes = 0;

  grpc::Status Attach(grpc::ServerContext* context, const v1::AttachRequest* request,
                      v1::AttachResponse* response) override {
    ++attaches_;
    NoteToken(*context);
    {
      const std::lock_guard<std::mutex> lock(token_mutex_);
      last_attach_ = *request;
    }
    response->set_table_set_id(manifest_.id);
    response->set_manifest(manifest_.text);
    response->mutable_limits()->set_max_unary_reply_bytes(max_reply_bytes);
    response->mutable_limits()->set_max_batch_rows(100000);
    on_attach(response);
    return grpc::Status::OK;
  }

  grpc::Status Lookup(grpc::ServerContext* context, const v1::LookupRequest* request,
                      v1::LookupResponse* response) override {
    NoteToken(*context);
    return Answer(*request, response, [&] { return context->IsCancelled(); });
  }

  // Each batch is answered in a thread of its own, so that they finish in any order.
  grpc::Status LookupStream(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::LookupResponse, v1::LookupRequest>* stream) override {
    std::mutex mutex;  // of writes and what follows
    std::set<uint64_t> cancelled;
    std::vector<std::thread> threads;
    v1::LookupRequest request;
    while (stream->Read(&request)) {
      if (request.cancel()) {
        const std::lock_guard<std::mutex> lock(mutex);
        cancelled.insert(request.batch_id());
        continue;
      }
      threads.emplace_back([&, request] {
        v1::LookupResponse response;
        const grpc::Status status = Answer(request, &response, [&] {
          const std::lock_guard<std::mutex> lock(mutex);
          return context->IsCancelled() || cancelled.count(request.batch_id()) > 0;
        });
        const std::lock_guard<std::mutex> lock(mutex);
        if (status.ok()) {
          WriteInChunks(response, stream);
        } else {
          response.Clear();
          response.set_batch_id(request.batch_id());
          response.set_code(static_cast<uint32_t>(status.error_code()));
          response.set_message(status.error_message());
          response.set_retry_after_ms(retry_after_ms);
          stream->Write(response);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return grpc::Status::OK;
  }

  // What it says it holds, from now on and again and again. Before that it does not say.
  void Say(v1::HoldingsResponse holdings) {
    const std::lock_guard<std::mutex> lock(holdings_mutex_);
    holdings_ = std::move(holdings);
    ++said_;
    holdings_changed_.notify_all();
  }
  grpc::Status Holdings(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::HoldingsResponse, v1::HoldingsRequest>* stream) override {
    std::unique_lock<std::mutex> lock(holdings_mutex_);
    if (said_ == 0) return {grpc::StatusCode::UNIMPLEMENTED, "it does not say"};
    while (!context->IsCancelled()) {
      const uint64_t said = said_;
      const v1::HoldingsResponse holdings = holdings_;
      lock.unlock();
      if (!stream->Write(holdings)) return grpc::Status::CANCELLED;
      lock.lock();
      if (said == said_) holdings_changed_.wait_for(lock, std::chrono::milliseconds(100));
    }
    return grpc::Status::OK;
  }

  uint64_t chunk_rows = 1 << 20;
  uint32_t retry_after_ms = 0;

 private:
  void NoteToken(const grpc::ServerContext& context) {
    const auto found = context.client_metadata().find("authorization");
    const std::lock_guard<std::mutex> lock(token_mutex_);
    last_token_ = found == context.client_metadata().end()
                      ? ""
                      : std::string(found->second.data(), found->second.size());
  }

  grpc::Status Answer(const v1::LookupRequest& request, v1::LookupResponse* response,
                      const std::function<bool()>& is_cancelled) {
    ++calls_;
    while (closed_) {
      if (is_cancelled()) {
        ++cancelled_;
        return grpc::Status::CANCELLED;
      }
      absl::SleepFor(absl::Milliseconds(1));
    }
    response->set_table_set_id(request.table_set_id());
    response->set_batch_id(request.batch_id());
    for (const v1::LayerRowIds& layer : request.layers()) {
      const uint32_t row_bytes = manifest_.FindLayer(layer.layer())->row_bytes;
      v1::LayerRowData* out = response->add_layers();
      out->set_layer(layer.layer());
      std::string* rows = out->mutable_rows();
      for (const uint32_t id : layer.row_ids32()) {
        std::vector<std::byte> row(row_bytes);
        SyntheticRow(layer.layer(), id, absl::MakeSpan(row));
        rows->append(reinterpret_cast<const char*>(row.data()), row.size());
      }
      rows_sent_ += layer.row_ids32_size();
    }
    return on_lookup(response);
  }

  void WriteInChunks(const v1::LookupResponse& whole,
                     grpc::ServerReaderWriter<v1::LookupResponse, v1::LookupRequest>* stream) {
    v1::LookupResponse message = whole;
    message.set_last(true);
    if (chunk_rows == 1 << 20) {
      stream->Write(message);
      return;
    }
    for (int i = 0; i < whole.layers_size(); ++i) {
      const v1::LayerRowData& layer = whole.layers(i);
      const uint64_t row_bytes = manifest_.FindLayer(layer.layer())->row_bytes;
      const uint64_t rows = layer.rows().size() / row_bytes;
      for (uint64_t first = 0; first < rows; first += chunk_rows) {
        message.clear_layers();
        v1::LayerRowData* run = message.add_layers();
        run->set_layer(layer.layer());
        run->set_first_row(first);
        run->set_rows(layer.rows().substr(first * row_bytes, chunk_rows * row_bytes));
        message.set_last(i + 1 == whole.layers_size() && first + chunk_rows >= rows);
        stream->Write(message);
      }
    }
  }

  const Manifest manifest_;
  int port_ = 0;
  std::atomic<bool> closed_{false};
  std::atomic<int> attaches_{0}, calls_{0}, cancelled_{0};
  std::atomic<uint64_t> rows_sent_{0};
  std::mutex holdings_mutex_;
  std::condition_variable holdings_changed_;
  v1::HoldingsResponse holdings_;
  uint64_t said_ = 0;
  mutable std::mutex token_mutex_;
  v1::AttachRequest last_attach_;
  std::string last_token_;
  std::unique_ptr<grpc::Server> server_;
};

// For tests that run over a stream and over unary calls: the parameter says which.
class GrpcFixture : public ::testing::TestWithParam<bool> {
 protected:
  GrpcFixture()
      : manifest_(WriteSmallTableSet(
                      {.layers = {{.layer = 1}, {.layer = 14, .row_bytes = 110, .rows = 3000}}},
                      ::testing::TempDir() + "/grpc_transport_test")
                      .value()),
        server_(manifest_) {}

  std::unique_ptr<Transport> Attach() {
    return GrpcTransport::Attach(server_.address(), "", {.unary = unary()}).value();
  }
  static bool unary() { return GetParam(); }
  // Rows of both layers; layer 1 in groups of 4 with a gap after each.
  void MakeBatch(uint64_t rows) {
    ids_.resize(rows);
    for (uint64_t i = 0; i < rows; ++i) ids_[i] = i * 7919 % 3000;
    landing1_.assign(rows / 4 * kStride, kUntouched);
    landing14_.assign(rows * 110, kUntouched);
    layers_ = {{.layer = 1, .row_ids = ids_, .landing = {landing1_.data(), 4, kStride}},
               {.layer = 14, .row_ids = ids_, .landing = {landing14_.data()}}};
  }
  void ExpectLanded() const {
    for (uint64_t i = 0; i < ids_.size(); ++i) {
      const std::byte* row = &landing1_[i / 4 * kStride + i % 4 * 264];
      ASSERT_TRUE(IsSyntheticRow(1, ids_[i], {row, 264})) << i;
      ASSERT_TRUE(IsSyntheticRow(14, ids_[i], {&landing14_[i * 110], 110})) << i;
      if (i % 4 == 3) {
        ASSERT_EQ(row[264], kUntouched) << "after group " << i / 4;
      }
    }
  }
  void ExpectUntouched() const {
    EXPECT_THAT(landing1_, ::testing::Each(kUntouched));
    EXPECT_THAT(landing14_, ::testing::Each(kUntouched));
  }

  static constexpr uint64_t kStride = 4 * 264 + 40;
  const Manifest manifest_;
  FakeLookupServer server_;
  std::vector<RowId> ids_;
  std::vector<std::byte> landing1_, landing14_;
  std::vector<LayerRequest> layers_;
};

}  // namespace engram::testing
