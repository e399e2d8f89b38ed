// What streams and unary calls hold, wait for and are charged for, through gRPC and a loop.
#include <grpcpp/grpcpp.h>
#include <malloc.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/grpc/testing/loop_fixture.h"

namespace engram {
namespace {

using ::testing::UnorderedElementsAre;

using testing::kSlabsHere;

constexpr char kToken[] = "a-token-that-is-long-enough-to-be-one";

using LoopTest = testing::LoopFixture;

// Else what a small batch takes would stand for its few bytes of rows, and all that waits be
// thought to take as long by the byte.
TEST_F(LoopTest, TheEstimateCountsAMessageAsTheTurnThatItWasLearnedFrom) {
  StartAgainBySteps(absl::Microseconds(1));
  grpc::ClientContext context;
  const Stream stream = stub_->LookupStream(&context);
  for (uint64_t id = 1; id <= 100; ++id) {
    ASSERT_TRUE(stream->Write(Request(resident_id_, id, 1)));
    EXPECT_TRUE(Read(stream, id).last());
  }
  ASSERT_TRUE(stream->Write(Request(later_id_, 101, 1)));  // is before the next one
  deferred_.AwaitBegun(1);
  v1::LookupRequest timed = Request(resident_id_, 102, 1);
  timed.set_timeout_us(1);
  ASSERT_TRUE(stream->Write(timed));
  const v1::LookupResponse response = Read(stream, 102);
  const std::vector<std::string> words = absl::StrSplit(response.message(), ' ');
  ASSERT_GT(words.size(), 8u) << response.message();
  int64_t estimate_us = 0;  // "engramd is behind: this batch would take N us"
  ASSERT_TRUE(absl::SimpleAtoi(words[7], &estimate_us)) << response.message();
  EXPECT_LT(estimate_us, 200) << "of two turns, each a few readings of the clock";
}

// Each of a thousand idle streams would hold the last request that came, megabytes, beside the
// memory for ids.
TEST_F(LoopTest, AStreamsRequestsAreLetGoWhenTheyWereRead) {
  v1::LookupRequest refused = Request("of no set", 1, 0);
  refused.mutable_layers(0)->mutable_row_ids32()->Resize(700'000, 5000);
  const auto held = [] {
    const auto info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  const size_t before = held();
  grpc::ClientContext contexts[8];
  std::vector<Stream> streams;
  for (grpc::ClientContext& context : contexts) {
    streams.push_back(stub_->LookupStream(&context));
    ASSERT_TRUE(streams.back()->Write(refused));
    EXPECT_NE(Read(streams.back(), 1).code(), 0u);
  }
  // gRPC may be about to let go of what was sent, and keeps some of a connection's memory: half of
  // what was sent at most.
  const size_t most = before + (size_t{11} << 20);
  for (int i = 0; i < 500 && held() > most; ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_LE(held(), most);
}

// A loop that is behind holds calls up with slabs free: that takes as long as it takes.
TEST_F(LoopTest, AUnaryCallMayWaitForItsTurnForLongerThanForSlabs) {
  StartAgainBySteps(absl::ZeroDuration());
  constexpr uint64_t kCalls = kSlabsHere / 2;  // as many slabs as one connection may have
  grpc::CompletionQueue queue;
  grpc::ClientContext contexts[kCalls];
  grpc::Status statuses[kCalls];
  v1::LookupResponse responses[kCalls];
  std::vector<std::unique_ptr<grpc::ClientAsyncResponseReader<v1::LookupResponse>>> calls;
  for (uint64_t i = 0; i < kCalls; ++i) {
    calls.push_back(stub_->AsyncLookup(&contexts[i], Request(later_id_, i, 10), &queue));
    calls.back()->Finish(&responses[i], &statuses[i], nullptr);
  }
  deferred_.AwaitBegun(kCalls);
  // Once their requests were read, for which there is a time as well.
  stepping_clock_->SetStep(absl::Milliseconds(600));
  for (uint64_t i = 0; i < kCalls; ++i) deferred_.Complete();
  for (uint64_t i = 0; i < kCalls; ++i) {
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
  }
  for (const grpc::Status& status : statuses) EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(LoopTest, AUnaryCallThatFindsNoSlabsForASecondIsToldSo) {
  std::vector<ReplySlabs::Slab> all;
  ASSERT_TRUE(context_.slabs->Take(
      /*connection=*/1, kSlabsHere, [] {}, &all));
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  auto call = stub_->AsyncLookup(&context, Request(later_id_, 1, 10), &queue);
  v1::LookupResponse response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  deferred_.AwaitBegun(1);
  deferred_.Complete();
  void* tag = nullptr;
  bool ok = false;
  auto next = grpc::CompletionQueue::TIMEOUT;
  while (next == grpc::CompletionQueue::TIMEOUT) {
    clock_.Advance(absl::Seconds(2));
    next = queue.AsyncNext(&tag, &ok,
                           std::chrono::system_clock::now() + std::chrono::milliseconds(10));
  }
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(status.error_message().find("reply buffers"), std::string::npos);
}

// They say nothing more, and nobody else calls.
TEST_F(LoopTest, StreamsEndWithTheTokenThatOpenedThem) {
  StartAgainForToken(kToken);
  grpc::ClientContext context, watch_context, holdings_context;
  for (grpc::ClientContext* one : {&context, &watch_context, &holdings_context}) {
    one->AddMetadata("authorization", absl::StrCat("Bearer ", kToken));
  }
  const Stream stream = stub_->LookupStream(&context);
  ASSERT_TRUE(stream->Write(Request(resident_id_, 1, 1)));
  EXPECT_TRUE(Read(stream, 1).last());
  v1::WatchRequest request;
  request.set_name("other");
  const auto watch = stub_->Watch(&watch_context, request);
  v1::WatchResponse watched;
  ASSERT_TRUE(watch->Read(&watched));
  EXPECT_EQ(watched.table_set_id(), resident_id_);
  const auto holdings = stub_->Holdings(&holdings_context);
  v1::HoldingsResponse held;
  ASSERT_TRUE(holdings->Read(&held));
  WriteToken("another-token-that-is-long-enough-to-be-one");
  tokens_->ReadNow();
  clock_.Advance(absl::Seconds(1));
  v1::LookupResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_FALSE(watch->Read(&watched));
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  while (holdings->Read(&held)) {
  }
  EXPECT_EQ(holdings->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  // Each is told of, once, however many ticks it took to end.
  std::vector<std::string> told;
  for (const RecentRefusal& refusal : refusals_->Recent()) {
    told.push_back(absl::StrCat(refusal.way, " ", refusal.reason, " ", refusal.count));
  }
  EXPECT_THAT(told, UnorderedElementsAre("lookup unauthenticated 1", "watch unauthenticated 1",
                                         "holdings unauthenticated 1"));
}

TEST_F(LoopTest, NoStreamGivesWayToOneThatMayNotCall) {
  StartAgainForToken(kToken);
  grpc::ClientContext context;
  context.AddMetadata("authorization", absl::StrCat("Bearer ", kToken));
  const Stream idle = stub_->LookupStream(&context);
  ASSERT_TRUE(idle->Write(Request(resident_id_, 1, 1)));
  EXPECT_TRUE(Read(idle, 1).last());
  clock_.Advance(absl::Seconds(60));
  // All that are left, of clients that are served.
  std::vector<std::unique_ptr<Places::Place>> others;
  for (uint64_t connection = 1; connection < kMaxStreams; ++connection) {
    others.push_back(std::make_unique<Places::Place>());
    ASSERT_EQ(context_.streams.Take(
                  connection, clock_.Now(), [] {}, others.back().get()),
              Places::Answer::kTaken);
    others.back()->Served(clock_.Now() + absl::Hours(24));
  }
  const auto end_of_another = [&](const std::string& its_token) {
    grpc::ClientContext other;
    other.AddMetadata("authorization", absl::StrCat("Bearer ", its_token));
    const auto stub = v1::Lookup::NewStub(Connect());
    const Stream stream = stub->LookupStream(&other);
    stream->WritesDone();
    return stream->Finish();
  };
  EXPECT_EQ(end_of_another("a-token-of-some-length-that-is-not-known").error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  ASSERT_TRUE(idle->Write(Request(resident_id_, 2, 1)));
  EXPECT_TRUE(Read(idle, 2).last());
  // To one that may call it does, once the loop knows that its message was sent.
  bool gave_way = false;
  for (int tries = 0; tries < 100 && !gave_way; ++tries) {
    clock_.Advance(absl::Seconds(60));
    gave_way = end_of_another(kToken).ok();
  }
  ASSERT_TRUE(gave_way);
  EXPECT_EQ(idle->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace engram
