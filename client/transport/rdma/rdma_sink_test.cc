// What a sink is told of batches over RDMA.
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "client/transport/rdma/rdma_exchange.h"
#include "client/transport/rdma/testing/fake_exchange.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using testing::Recorder;

using RdmaSinkTest = testing::ExchangeFixture;

TEST_F(RdmaSinkTest, ASinkIsToldEachLayerAndTheEndOnce) {
  Recorder sink;
  const auto ticket = Submit(absl::Hours(2), &sink);
  connection(1).to_land = 1;
  static_cast<void>(exchange_->Poll(*ticket));
  EXPECT_THAT(sink.told(), ElementsAre("1"));
  connection(1).to_answer = 1;
  static_cast<void>(exchange_->Poll(*ticket));
  EXPECT_THAT(sink.told(), ElementsAre("1", "0", "OK"));
  exchange_->Reap(*ticket);
  EXPECT_THAT(sink.told(), ElementsAre("1", "0", "OK"));
}

TEST_F(RdmaSinkTest, WhatHasNoColumnsHasLandedWhenSubmitReturns) {
  const ColumnSlice none;
  static constexpr RowId kRow = 3;
  const LayerRequest layers[] = {{.layer = 1, .row_ids = {}, .landing = {}, .slice = &none},
                                 {.layer = 2, .row_ids = {&kRow, 1}, .landing = {.data = memory_}}};
  Recorder sink;
  const auto some = exchange_->Submit({.layers = layers, .sink = &sink, .sink_tag = 1});
  ASSERT_TRUE(some.ok()) << some.status();
  EXPECT_THAT(sink.told(1), ElementsAre("0"));
  EXPECT_TRUE(exchange_->WaitLayer(*some, 0).ok());
  connection(1).to_answer = 1;
  EXPECT_TRUE(exchange_->Wait(*some).ok());
  EXPECT_THAT(sink.told(1), ElementsAre("0", "1", "OK"));
  // Nothing at all is landed, and asked of nobody.
  const auto nothing = exchange_->Submit({.layers = {layers, 1}, .sink = &sink, .sink_tag = 2});
  ASSERT_TRUE(nothing.ok()) << nothing.status();
  EXPECT_EQ(exchange_->Poll(*nothing), TicketState::kLanded);
  EXPECT_THAT(sink.told(2), ElementsAre("0", "OK"));
  EXPECT_EQ(events_, (testing::Events{"open 1", "send 1:1"}));
}

TEST_F(RdmaSinkTest, ASinkIsToldHowABatchFailed) {
  Recorder sink;
  const auto cancelled = Submit(absl::Hours(2), &sink, 1);
  const auto broken = Submit(absl::Hours(2), &sink, 2);
  const auto late = Submit(absl::Seconds(1), &sink, 3);
  const auto ended = Submit(absl::Hours(2), &sink, 4);
  exchange_->Cancel(*cancelled);
  EXPECT_THAT(sink.told(1), ElementsAre("CANCELLED"));
  clock_.Advance(absl::Seconds(1));
  // Whoever waits for another one sees that this one is late.
  connection(1).sleeps = absl::Milliseconds(10);
  const auto next = Submit(absl::Milliseconds(1));
  EXPECT_EQ(exchange_->Wait(*next).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(sink.told(3), ElementsAre("DEADLINE_EXCEEDED"));
  connection(1).ended = absl::DataLossError("fenced");
  static_cast<void>(exchange_->Poll(*broken));
  EXPECT_THAT(sink.told(2), ElementsAre("DATA_LOSS"));
  EXPECT_THAT(sink.told(4), ElementsAre("DATA_LOSS"));
  // A late answer, or a reap, tells nothing more.
  for (const auto& ticket : {cancelled, broken, late, ended, next}) exchange_->Reap(*ticket);
  EXPECT_THAT(sink.told(1), ElementsAre("CANCELLED"));
  EXPECT_THAT(sink.told(3), ElementsAre("DEADLINE_EXCEEDED"));
}

TEST_F(RdmaSinkTest, ASinkIsToldOfWhatTheDestructorEnds) {
  Recorder sink;
  static_cast<void>(Submit(absl::Hours(2), &sink));
  exchange_.reset();
  EXPECT_THAT(sink.told(), ElementsAre("CANCELLED"));
}

TEST_F(RdmaSinkTest, SinksAreToldWhicheverThreadMovesTheirBatchesAlong) {
  Recorder sink;
  std::vector<Ticket> tickets;
  for (uint64_t i = 0; i < 8; ++i) tickets.push_back(*Submit(absl::Hours(2), &sink, i));
  connection(1).sleeps = absl::Milliseconds(20);
  std::vector<std::thread> threads;
  for (const Ticket ticket : {tickets[2], tickets[7]}) {
    threads.emplace_back([&, ticket] {
      EXPECT_TRUE(exchange_->Wait(ticket).ok());
      exchange_->Reap(ticket);
    });
  }
  for (int i = 0; i < 8; ++i) ++connection(1).after_sleep;
  for (std::thread& thread : threads) thread.join();
  for (const Ticket ticket : tickets) exchange_->Reap(ticket);
  for (uint64_t i = 0; i < 8; ++i) EXPECT_THAT(sink.told(i), ElementsAre("1", "0", "OK")) << i;
}

}  // namespace
}  // namespace engram
