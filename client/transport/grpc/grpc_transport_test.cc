// The gRPC transport against a server of the test's own that can be told to misbehave.
#include "client/transport/grpc/grpc_transport.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"
#include "proto/engram/v1/lookup.grpc.pb.h"

namespace engram {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

constexpr std::byte kUntouched{0xA5};

class FakeServer final : public v1::Lookup::Service {
 public:
  explicit FakeServer(Manifest manifest) : manifest_(std::move(manifest)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeServer() override {
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

  std::function<void(v1::AttachResponse*)> on_attach = [](auto*) {};
  std::function<grpc::Status(v1::LookupResponse*)> on_lookup = [](auto*) {
    return grpc::Status::OK;
  };
  uint64_t max_reply_bytes = 0;

  grpc::Status Attach(grpc::ServerContext*, const v1::AttachRequest*,
                      v1::AttachResponse* response) override {
    ++attaches_;
    response->set_table_set_id(manifest_.id);
    response->set_manifest(manifest_.text);
    response->mutable_limits()->set_max_unary_reply_bytes(max_reply_bytes);
    response->mutable_limits()->set_max_batch_rows(100000);
    on_attach(response);
    return grpc::Status::OK;
  }

  grpc::Status Lookup(grpc::ServerContext* context, const v1::LookupRequest* request,
                      v1::LookupResponse* response) override {
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

  uint64_t chunk_rows = 1 << 20;
  uint32_t retry_after_ms = 0;

 private:
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
  std::unique_ptr<grpc::Server> server_;
};

// Each test runs over a stream and over unary calls.
class GrpcTransportTest : public ::testing::TestWithParam<bool> {
 protected:
  GrpcTransportTest()
      : manifest_(testing::WriteSmallTableSet(
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
    EXPECT_THAT(landing1_, Each(kUntouched));
    EXPECT_THAT(landing14_, Each(kUntouched));
  }

  static constexpr uint64_t kStride = 4 * 264 + 40;
  const Manifest manifest_;
  FakeServer server_;
  std::vector<RowId> ids_;
  std::vector<std::byte> landing1_, landing14_;
  std::vector<LayerRequest> layers_;
};

// What a unary reply has not: it lands as a whole, and the fake refuses nothing for a while.
class GrpcStreamTest : public GrpcTransportTest {};

TEST_P(GrpcTransportTest, CutsABatchIntoCallsAndLandsEveryRow) {
  server_.max_reply_bytes = (64 << 10) + 10000;  // 10,000 bytes of rows a call
  server_.chunk_rows = 7;
  const auto transport = Attach();
  MakeBatch(400);
  const Ticket ticket = transport->Submit({.layers = layers_}).value();
  EXPECT_TRUE(transport->Wait(ticket).ok());
  EXPECT_EQ(transport->Poll(ticket), TicketState::kLanded);
  ExpectLanded();
  if (unary()) {
    EXPECT_GE(server_.calls(), 400 * (264 + 110) / 10000);
  }
  transport->Reap(ticket);
  EXPECT_EQ(transport->Poll(ticket), TicketState::kReaped);
  EXPECT_EQ(transport->Wait(ticket).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_P(GrpcTransportTest, NothingLandsOfAnAnswerThatIsNotWhatWasAskedFor) {
  const auto transport = Attach();
  const std::vector<std::function<void(v1::LookupResponse*)>> lies = {
      [](auto* r) { r->set_table_set_id(std::string(64, '0')); },
      [](auto* r) { r->clear_table_set_id(); },
      [](auto* r) { r->set_batch_id(r->batch_id() + 1); },
      [](auto* r) { r->mutable_layers()->RemoveLast(); },
      [](auto* r) { r->add_layers(); },
      [](auto* r) { r->mutable_layers(0)->set_layer(14); },
      [](auto* r) { r->mutable_layers(1)->mutable_rows()->pop_back(); },
      [](auto* r) { r->mutable_layers(1)->mutable_rows()->push_back('x'); },
      [](auto* r) { r->Clear(); },
  };
  for (size_t i = 0; i < lies.size(); ++i) {
    server_.on_lookup = [&](v1::LookupResponse* response) {
      lies[i](response);
      return grpc::Status::OK;
    };
    MakeBatch(8);
    const Ticket ticket = transport->Submit({.layers = layers_}).value();
    const absl::Status status = transport->Wait(ticket);
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << i;
    EXPECT_THAT(std::string(status.message()), HasSubstr(server_.address())) << i;
    EXPECT_EQ(transport->Poll(ticket), TicketState::kFailedLent);
    ExpectUntouched();
    transport->Reap(ticket);
  }
}

TEST_P(GrpcTransportTest, SurfacesTheServersErrorWithItsCode) {
  const auto transport = Attach();
  server_.on_lookup = [](auto*) {
    return grpc::Status(grpc::StatusCode::DATA_LOSS, "block 7 of shard.0");
  };
  MakeBatch(8);
  const Ticket ticket = transport->Submit({.layers = layers_}).value();
  const absl::Status status = transport->Wait(ticket);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("block 7"));
}

TEST_P(GrpcTransportTest, WaitReturnsByTheDeadlineAndTheBuffersStayAsTheyAre) {
  const auto transport = Attach();
  server_.Close();
  MakeBatch(8);
  const Ticket ticket =
      transport->Submit({.layers = layers_, .deadline = RealClock().Now() + absl::Milliseconds(50)})
          .value();
  EXPECT_EQ(transport->Poll(ticket), TicketState::kInFlight);
  EXPECT_EQ(transport->Wait(ticket).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(transport->Poll(ticket), TicketState::kFailedLent);
  transport->Reap(ticket);
  EXPECT_EQ(transport->Poll(ticket), TicketState::kReaped);
  server_.Open();
  // A later batch is not disturbed, and the earlier one's rows never come.
  const std::vector<std::byte> before = landing1_;
  std::vector<std::byte> rows(264);
  const std::vector<RowId> one = {5};
  const std::vector<LayerRequest> layers = {{.layer = 1, .row_ids = one, .landing = {rows.data()}}};
  const Ticket later = transport->Submit({.layers = layers}).value();
  EXPECT_TRUE(transport->Wait(later).ok());
  EXPECT_TRUE(IsSyntheticRow(1, 5, rows));
  EXPECT_EQ(landing1_, before);
}

TEST_P(GrpcTransportTest, ADeadlineThatHasPassedIsNotSent) {
  const auto transport = Attach();
  MakeBatch(8);
  const auto ticket =
      transport->Submit({.layers = layers_, .deadline = RealClock().Now() - absl::Milliseconds(1)});
  EXPECT_EQ(ticket.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(server_.calls(), 0);
}

TEST_P(GrpcTransportTest, CancelAndReapReachTheServer) {
  const auto transport = Attach();
  server_.Close();
  MakeBatch(8);
  const Ticket cancelled = transport->Submit({.layers = layers_}).value();
  const Ticket reaped = transport->Submit({.layers = layers_}).value();
  while (server_.calls() < 2) absl::SleepFor(absl::Milliseconds(1));
  transport->Cancel(cancelled);
  EXPECT_EQ(transport->Wait(cancelled).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(transport->Poll(cancelled), TicketState::kFailedLent);
  transport->Reap(reaped);
  while (server_.cancelled() < 2) absl::SleepFor(absl::Milliseconds(1));
  ExpectUntouched();
}

// Streams number their batches each for itself.
TEST_P(GrpcTransportTest, CancelEndsNoBatchOfAnotherStream) {
  const auto transport = GrpcTransport::Attach(server_.address(), "",
                                               {.unary = unary(), .connections = 2, .streams = 2})
                             .value();
  server_.Close();
  MakeBatch(8);
  std::vector<std::byte> elsewhere(264);
  const std::vector<RowId> one = {5};
  const std::vector<LayerRequest> layers = {
      {.layer = 1, .row_ids = one, .landing = {elsewhere.data()}}};
  const Ticket kept = transport->Submit({.layers = layers_}).value();
  std::vector<Ticket> cancelled;
  for (int i = 0; i < 3; ++i) cancelled.push_back(transport->Submit({.layers = layers}).value());
  while (server_.calls() < 4) absl::SleepFor(absl::Milliseconds(1));
  for (const Ticket ticket : cancelled) transport->Cancel(ticket);
  // One more on each stream: what was sent before it has arrived when it has.
  std::vector<Ticket> later;
  for (int i = 0; i < 4; ++i) later.push_back(transport->Submit({.layers = layers}).value());
  while (server_.calls() < 8 || server_.cancelled() < 3) absl::SleepFor(absl::Milliseconds(1));
  absl::SleepFor(absl::Milliseconds(10));
  server_.Open();
  EXPECT_TRUE(transport->Wait(kept).ok()) << transport->Wait(kept);
  ExpectLanded();
  for (const Ticket ticket : later) EXPECT_TRUE(transport->Wait(ticket).ok());
  EXPECT_EQ(server_.cancelled(), 3);
}

TEST_P(GrpcTransportTest, DestroyingTheTransportReapsWhatIsInFlight) {
  auto transport = Attach();
  server_.Close();
  MakeBatch(8);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(transport->Submit({.layers = layers_}).ok());
  while (server_.calls() < 5) absl::SleepFor(absl::Milliseconds(1));
  transport.reset();
  ExpectUntouched();
}

TEST_P(GrpcTransportTest, AServerThatGoesAwayIsUnavailable) {
  const auto transport = Attach();
  server_.Stop();
  MakeBatch(8);
  const Ticket ticket = transport->Submit({.layers = layers_}).value();
  EXPECT_EQ(transport->Wait(ticket).code(), absl::StatusCode::kUnavailable);
  ExpectUntouched();
}

// A server that stops cancels calls that reach it too late; one that is short of memory those whose
// client takes nothing.
TEST_P(GrpcTransportTest, ACallThatTheServerDropsIsUnavailable) {
  server_.on_lookup = [](auto*) { return grpc::Status::CANCELLED; };
  const auto transport = Attach();
  MakeBatch(8);
  const Ticket ticket = transport->Submit({.layers = layers_}).value();
  const absl::Status status = transport->Wait(ticket);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("it is stopping, or this client took no"));
  ExpectUntouched();
}

TEST_P(GrpcTransportTest, RowsThatRepeatTravelOnceAndLandEverywhere) {
  server_.chunk_rows = 100;
  const auto transport = Attach();
  MakeBatch(6000);  // of 3000 rows
  const Ticket ticket = transport->Submit({.layers = layers_}).value();
  EXPECT_TRUE(transport->Wait(ticket).ok());
  ExpectLanded();
  EXPECT_EQ(server_.rows_sent(), 2 * 3000u);
}

TEST_P(GrpcStreamTest, ALayerMayBeReadBeforeTheBatchHasLanded) {
  server_.chunk_rows = 8;
  const auto transport = Attach();
  MakeBatch(8);
  const Ticket ticket = transport->Submit({.layers = layers_}).value();
  EXPECT_TRUE(transport->WaitLayer(ticket, 0).ok());
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_TRUE(IsSyntheticRow(1, ids_[i], {&landing1_[i / 4 * kStride + i % 4 * 264], 264}));
  }
  EXPECT_TRUE(transport->WaitLayer(ticket, 1).ok());
  ExpectLanded();
}

TEST_P(GrpcStreamTest, AsksAgainWhereTheServerHasNoRoom) {
  const auto transport = Attach();
  std::atomic<int> refused{0};
  server_.retry_after_ms = 5;
  server_.on_lookup = [&](auto*) {
    return ++refused <= 3 ? grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full")
                          : grpc::Status::OK;
  };
  MakeBatch(8);
  EXPECT_TRUE(transport->Wait(transport->Submit({.layers = layers_}).value()).ok());
  ExpectLanded();
  EXPECT_EQ(refused, 4);
  // Not beyond the deadline.
  refused = -1000000;
  const Ticket ticket =
      transport->Submit({.layers = layers_, .deadline = RealClock().Now() + absl::Milliseconds(60)})
          .value();
  const absl::StatusCode code = transport->Wait(ticket).code();
  EXPECT_TRUE(code == absl::StatusCode::kResourceExhausted ||
              code == absl::StatusCode::kDeadlineExceeded)
      << code;
}

// Several threads wait for batches of their own on one transport; whoever waits drives.
TEST_P(GrpcTransportTest, ManyThreadsWaitOnOneTransport) {
  const auto transport = Attach();
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      std::vector<std::byte> rows(2 * 264);
      for (uint64_t i = 0; i < 200; ++i) {
        const std::vector<RowId> ids = {(t * 1000 + i) % 3000, i};
        const LayerRequest layer = {.layer = 1, .row_ids = ids, .landing = {rows.data()}};
        const Ticket ticket = transport->Submit({.layers = {&layer, 1}}).value();
        ASSERT_TRUE(transport->Wait(ticket).ok());
        transport->Reap(ticket);
        ASSERT_TRUE(IsSyntheticRow(1, ids[0], {rows.data(), 264}));
        ASSERT_TRUE(IsSyntheticRow(1, ids[1], {rows.data() + 264, 264}));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Nobody waits: the transport's own thread lands the rows.
TEST_P(GrpcTransportTest, RowsLandWhileNobodyWaits) {
  const auto transport = Attach();
  MakeBatch(400);
  ASSERT_TRUE(transport->Submit({.layers = layers_}).ok());
  const MonotonicTime end = RealClock().Now() + absl::Seconds(10);
  const auto* last = reinterpret_cast<const volatile std::byte*>(&landing14_.back());
  std::vector<std::byte> row(110);
  SyntheticRow(14, ids_.back(), absl::MakeSpan(row));
  while (*last != row.back() && RealClock().Now() < end) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_TRUE(*last == row.back());
}

TEST_P(GrpcTransportTest, RefusesABadBatchBeforeAnythingIsSent) {
  const auto transport = Attach();
  MakeBatch(8);
  const auto code_of = [&](const std::vector<LayerRequest>& layers) {
    return transport->Submit({.layers = layers}).status().code();
  };
  const auto with = [&](auto change) {
    std::vector<LayerRequest> layers = layers_;
    change(layers);
    return layers;
  };
  const std::vector<RowId> out_of_range = {0, 3000};
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code_of({}), kInvalid);
  EXPECT_EQ(code_of(with([](auto& l) { l[0].layer = 2; })), kInvalid);
  EXPECT_EQ(code_of(with([](auto& l) { l[1].layer = 1; })), kInvalid);
  EXPECT_EQ(code_of(with([](auto& l) { l[0].row_ids = {}; })), kInvalid);
  EXPECT_EQ(code_of(with([&](auto& l) { l[1].row_ids = out_of_range; })), kInvalid);
  EXPECT_EQ(code_of(with([](auto& l) { l[0].landing.data = nullptr; })), kInvalid);
  EXPECT_EQ(code_of(with([](auto& l) { l[0].landing.group_stride_bytes = 4 * 264 - 1; })),
            kInvalid);
  MakeBatch(60000);
  EXPECT_EQ(code_of(layers_), kInvalid);
  EXPECT_EQ(server_.calls(), 0);
}

TEST_P(GrpcTransportTest, SeveralTransportsAreMadeFromOneAttachment) {
  server_.on_attach = [](v1::AttachResponse* r) { r->set_shm_socket("/run/shm.sock"); };
  const auto attachment = GrpcAttachment::Create(server_.address(), "", {}).value();
  EXPECT_EQ(attachment->table_set().manifest.id, manifest_.id);
  EXPECT_EQ(attachment->address(), server_.address());
  EXPECT_EQ(attachment->offer().shm_socket, "/run/shm.sock");
  EXPECT_EQ(attachment->offer().max_batch_rows, 100000u);
  const GrpcOptions options = {.unary = unary(), .connections = 2};
  auto first = GrpcTransport::Create(attachment, options).value();
  const auto second = GrpcTransport::Create(attachment, options).value();
  for (Transport* transport : {first.get(), second.get()}) {
    EXPECT_EQ(transport->capabilities().max_batch_rows, 100000u);
    MakeBatch(8);
    EXPECT_TRUE(transport->Wait(transport->Submit({.layers = layers_}).value()).ok());
    ExpectLanded();
  }
  // The channel that they share outlives the one that goes.
  first.reset();
  MakeBatch(16);
  EXPECT_TRUE(second->Wait(second->Submit({.layers = layers_}).value()).ok());
  ExpectLanded();
  EXPECT_EQ(server_.attaches(), 1);
}

TEST_P(GrpcTransportTest, AttachChecksWhatTheOwnerSends) {
  server_.on_attach = [](v1::AttachResponse* r) { r->mutable_manifest()->append("# more\n"); };
  const auto other_text = GrpcTransport::Attach(server_.address(), "", {});
  EXPECT_EQ(other_text.status().code(), absl::StatusCode::kDataLoss);
  server_.on_attach = [](v1::AttachResponse* r) { r->set_manifest("nonsense {"); };
  const auto nonsense = GrpcTransport::Attach(server_.address(), "", {});
  EXPECT_EQ(nonsense.status().code(), absl::StatusCode::kDataLoss);
}

INSTANTIATE_TEST_SUITE_P(Modes, GrpcStreamTest, ::testing::Values(false),
                         [](const auto&) { return "stream"; });
INSTANTIATE_TEST_SUITE_P(Modes, GrpcTransportTest, ::testing::Bool(),
                         [](const auto& mode) { return mode.param ? "unary" : "stream"; });

TEST(GrpcTransportAttach, ChecksTheTokenMap) {
  const Manifest manifest =
      testing::WriteSmallTableSet({.with_token_map = true},
                                  ::testing::TempDir() + "/grpc_transport_test_map")
          .value();
  FakeServer server(manifest);
  server.on_attach = [](v1::AttachResponse* r) { r->set_token_map(std::string(400, '\1')); };
  const auto status = GrpcTransport::Attach(server.address(), "", {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("token map"));
}

TEST(GrpcTransportAttach, SaysWhereNobodyAnswered) {
  const std::string address =
      "unix:/tmp/engram-nobody-listens.sock";  // a test's folder is too long
  const auto status =
      GrpcTransport::Attach(address, "", {.timeout = absl::ZeroDuration()}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr(address));
}

}  // namespace
}  // namespace engram
