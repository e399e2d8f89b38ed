// The gRPC transport against a server of the test's own that can be told to misbehave.
#include "client/transport/grpc/grpc_transport.h"

#include <malloc.h>

#include <atomic>
#include <functional>
#include <initializer_list>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "client/transport/failure_mark.h"
#include "client/transport/grpc/grpc_stream.h"
#include "client/transport/grpc/grpc_unary_calls.h"
#include "client/transport/grpc/testing/fake_lookup_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

// Each test runs over a stream and over unary calls.
using GrpcTransportTest = testing::GrpcFixture;

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
      std::vector<std::byte> rows(size_t{2} * 264);
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

// A thread that drives may be about to send a request again when its transport goes.
TEST(GrpcCallsTest, NothingBeginsAfterTheEnd) {
  GrpcStream stream({});
  GrpcUnaryCalls unary({});
  for (GrpcCalls* const lane : std::initializer_list<GrpcCalls*>{&stream, &unary}) {
    EXPECT_EQ(lane->End(), 0u);
    EXPECT_FALSE(lane->Send(std::make_shared<GrpcBatch::Request>()));
    EXPECT_TRUE(lane->Ended());
  }
}

// Each of many idle transports would hold the last reply that came, megabytes.
TEST_P(GrpcTransportTest, ARepliesBytesAreLetGoWhenItsRowsHaveLanded) {
  server_.max_reply_bytes = uint64_t{4} << 20;
  MakeBatch(8000);  // 3 MB
  std::vector<std::unique_ptr<Transport>> transports;
  for (int i = 0; i < 8; ++i) transports.push_back(Attach());
  const auto held = [] {
    const auto info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  const size_t before = held();
  for (const auto& transport : transports) {
    const Ticket ticket = transport->Submit({.layers = layers_}).value();
    EXPECT_TRUE(transport->Wait(ticket).ok());
    transport->Reap(ticket);
  }
  // The server may be about to let go of what it sent.
  const size_t most = before + (size_t{8} << 20);
  for (int i = 0; i < 500 && held() > most; ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_LE(held(), most);
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

// As whoever asks several owners for the same rows has it.
struct HandGate final : LandingGate {
  bool BeginLanding(uint64_t tag) override {
    tags.push_back(tag);
    return is_open;
  }
  void EndLanding(uint64_t) override { ++ended; }
  bool is_open = true;
  std::vector<uint64_t> tags;
  int ended = 0;
};

TEST_P(GrpcTransportTest, CopiesNoRowThatTheGateRefuses) {
  const auto transport = Attach();
  for (const bool is_open : {true, false}) {
    HandGate gate;
    gate.is_open = is_open;
    MakeBatch(8);
    const Ticket ticket =
        transport->Submit({.layers = layers_, .gate = &gate, .gate_tag = 7}).value();
    const absl::Status status = transport->Wait(ticket);
    transport->Reap(ticket);
    EXPECT_THAT(gate.tags, ::testing::ElementsAre(7));
    if (is_open) {
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_EQ(gate.ended, 1);
      ExpectLanded();
    } else {
      EXPECT_TRUE(absl::IsCancelled(status)) << status;
      EXPECT_EQ(gate.ended, 0);
      ExpectUntouched();
    }
  }
}

TEST_P(GrpcStreamTest, AsksOnceAndSaysWhyItFailed) {
  const auto transport = GrpcTransport::Attach(server_.address(), "", {.asks_once = true}).value();
  server_.retry_after_ms = 60'000;
  server_.on_lookup = [](auto*) {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "no room");
  };
  MakeBatch(8);
  const Ticket busy = transport->Submit({.layers = layers_}).value();
  const absl::Status no_room = transport->Wait(busy);
  EXPECT_TRUE(absl::IsResourceExhausted(no_room)) << no_room;
  EXPECT_EQ(RetryAfterOf(no_room), absl::Minutes(1));
  EXPECT_FALSE(IsBroken(no_room));
  EXPECT_EQ(server_.calls(), 1);
  transport->Reap(busy);
  server_.Close();
  const Ticket cut = transport->Submit({.layers = layers_}).value();
  while (server_.calls() < 2) transport->Poll(cut);
  server_.Stop();
  const absl::Status broken = transport->Wait(cut);
  EXPECT_TRUE(absl::IsUnavailable(broken)) << broken;
  EXPECT_TRUE(IsBroken(broken));
  transport->Reap(cut);
}

INSTANTIATE_TEST_SUITE_P(Modes, GrpcStreamTest, ::testing::Values(false),
                         [](const auto&) { return "stream"; });
INSTANTIATE_TEST_SUITE_P(Modes, GrpcTransportTest, ::testing::Bool(),
                         [](const auto& mode) { return mode.param ? "unary" : "stream"; });

}  // namespace
}  // namespace engram
