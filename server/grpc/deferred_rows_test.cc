// Streams and unary calls over a row source whose rows come later, through gRPC and a loop.
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "server/grpc/testing/loop_fixture.h"

namespace engram {
namespace {

using testing::kMessageRows;
using testing::kSlabsHere;

using DeferredRowsTest = testing::LoopFixture;

TEST_F(DeferredRowsTest, RdmaIsOfferedForRowsInMemoryAlone) {
  const auto open = [&](const std::string& set, v1::RdmaAttachResponse* response) {
    grpc::ClientContext context;
    const auto stream = stub_->AttachRdma(&context);
    v1::RdmaAttachRequest request;
    request.mutable_open()->set_version(1);
    request.mutable_open()->set_table_set_id(set);
    EXPECT_TRUE(stream->Write(request));
    if (stream->Read(response)) stream->WritesDone();
    return stream->Finish();
  };
  v1::RdmaAttachResponse response;
  const grpc::Status later = open(later_id_, &response);
  EXPECT_EQ(later.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_NE(later.error_message().find(later_id_), std::string::npos) << later.error_message();
  EXPECT_NE(later.error_message().find("attach over gRPC"), std::string::npos);
  const grpc::Status resident = open(resident_id_, &response);
  EXPECT_TRUE(resident.ok()) << resident.error_message();
  EXPECT_TRUE(response.has_offer());
}

TEST_F(DeferredRowsTest, AStreamsOtherBatchesGoByOneWhoseRowsAreOnTheirWay) {
  grpc::ClientContext context;
  const Stream stream = stub_->LookupStream(&context);
  const v1::LookupRequest later = Request(later_id_, 1, 10);
  ASSERT_TRUE(stream->Write(later));
  deferred_.AwaitBegun(1);
  // More replies than there are slabs: none is held by who waits.
  for (uint64_t id = 2; id < 2 + 3 * kSlabsHere; ++id) {
    const v1::LookupRequest resident = Request(resident_id_, id, 20);
    ASSERT_TRUE(stream->Write(resident));
    const v1::LookupResponse response = Read(stream, id);
    EXPECT_TRUE(response.last());
    ExpectRows(resident, response.layers(0));
  }
  EXPECT_EQ(deferred_.pinned(), 1u);
  deferred_.Complete();
  const v1::LookupResponse response = Read(stream, 1);
  EXPECT_TRUE(response.last());
  ExpectRows(later, response.layers(0));
  EXPECT_EQ(deferred_.pinned(), 0u);
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(DeferredRowsTest, ALargeBatchAsksForTheRowsOfOneMessageAtATime) {
  grpc::ClientContext context;
  const Stream stream = stub_->LookupStream(&context);
  const v1::LookupRequest request = Request(later_id_, 1, 3 * kMessageRows);
  ASSERT_TRUE(stream->Write(request));
  uint64_t rows = 0;
  bool last = false;
  for (size_t message = 1; !last; ++message) {
    deferred_.AwaitBegun(message);
    EXPECT_EQ(deferred_.pinned(), 1u);
    deferred_.Complete();
    const v1::LookupResponse response = Read(stream, 1);
    ASSERT_EQ(response.layers_size(), 1);
    EXPECT_EQ(response.layers(0).first_row(), rows);
    ExpectRows(request, response.layers(0));
    rows += response.layers(0).rows().size() / 264;
    last = response.last();
    ASSERT_LE(message, 3u);
  }
  EXPECT_EQ(rows, static_cast<uint64_t>(3 * kMessageRows));
}

TEST_F(DeferredRowsTest, ABatchWhoseRowsDoNotComeEndsWithTheReasonAndItsStreamGoesOn) {
  grpc::ClientContext context;
  const Stream stream = stub_->LookupStream(&context);
  ASSERT_TRUE(stream->Write(Request(later_id_, 1, 10)));
  deferred_.AwaitBegun(1);
  deferred_.Fail(absl::DataLossError("the page is damaged"));
  v1::LookupResponse response = Read(stream, 1);
  EXPECT_EQ(response.code(), static_cast<uint32_t>(absl::StatusCode::kDataLoss));
  EXPECT_EQ(response.message(), "the page is damaged");
  deferred_.Refuse(absl::ResourceExhaustedError("no room to stage"));
  ASSERT_TRUE(stream->Write(Request(later_id_, 2, 10)));
  response = Read(stream, 2);
  EXPECT_EQ(response.code(), static_cast<uint32_t>(absl::StatusCode::kResourceExhausted));
  EXPECT_GT(response.retry_after_ms(), 0u);
  const v1::LookupRequest resident = Request(resident_id_, 3, 20);
  ASSERT_TRUE(stream->Write(resident));
  ExpectRows(resident, Read(stream, 3).layers(0));
}

TEST_F(DeferredRowsTest, CancelAndDeadlineEndABatchThatWaitsForRows) {
  grpc::ClientContext context;
  const Stream stream = stub_->LookupStream(&context);
  ASSERT_TRUE(stream->Write(Request(later_id_, 1, 10)));
  v1::LookupRequest cancel;
  cancel.set_batch_id(1);
  cancel.set_cancel(true);
  ASSERT_TRUE(stream->Write(cancel));
  EXPECT_EQ(Read(stream, 1).code(), static_cast<uint32_t>(absl::StatusCode::kCancelled));
  EXPECT_EQ(deferred_.pinned(), 0u);
  v1::LookupRequest timed = Request(later_id_, 2, 10);
  timed.set_timeout_us(60'000'000);
  ASSERT_TRUE(stream->Write(timed));
  deferred_.AwaitBegun(2);
  clock_.Advance(absl::Seconds(61));
  EXPECT_EQ(Read(stream, 2).code(), static_cast<uint32_t>(absl::StatusCode::kDeadlineExceeded));
  EXPECT_EQ(deferred_.pinned(), 0u);
}

TEST_F(DeferredRowsTest, AUnaryCallIsAnsweredWhenItsRowsHaveCome) {
  const v1::LookupRequest later = Request(later_id_, 1, 3 * kMessageRows);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  auto call = stub_->AsyncLookup(&context, later, &queue);
  v1::LookupResponse response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  deferred_.AwaitBegun(1);
  EXPECT_EQ(context_.slabs->FreeSlabs(), kSlabsHere);
  const v1::LookupRequest resident = Request(resident_id_, 2, 20);
  {
    grpc::ClientContext other;
    v1::LookupResponse answer;
    ASSERT_TRUE(stub_->Lookup(&other, resident, &answer).ok());
    ExpectRows(resident, answer.layers(0));
  }
  // However long they take: it does not wait for slabs.
  clock_.Advance(absl::Hours(1));
  deferred_.Complete();
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.layers_size(), 1);
  EXPECT_EQ(response.layers(0).rows().size(), 3u * kMessageRows * 264);
  ExpectRows(later, response.layers(0));
  EXPECT_EQ(deferred_.pinned(), 0u);
}

TEST_F(DeferredRowsTest, AUnaryCallWhoseRowsDoNotComeEndsWithTheReason) {
  for (const bool refused : {false, true}) {
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    if (refused) deferred_.Refuse(absl::UnavailableError("the disk is gone"));
    auto call = stub_->AsyncLookup(&context, Request(later_id_, 1, 10), &queue);
    v1::LookupResponse response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    if (!refused) {
      deferred_.AwaitBegun(1);
      deferred_.Fail(absl::UnavailableError("the disk is gone"));
    }
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(status.error_message(), "the disk is gone");
  }
}

// The client set it by its own clock; from there on it is the server's.
TEST_F(DeferredRowsTest, AUnaryCallsDeadlineIsByTheServersClock) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(100));
  grpc::CompletionQueue queue;
  auto call = stub_->AsyncLookup(&context, Request(later_id_, 1, 10), &queue);
  v1::LookupResponse response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  deferred_.AwaitBegun(1);
  clock_.Advance(absl::Seconds(101));
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(status.error_message(), "the deadline passed while the lookup waited");
  EXPECT_EQ(deferred_.pinned(), 0u);
}

TEST_F(DeferredRowsTest, ALoopThatEndsGivesUpWhatItWaitsFor) {
  grpc::ClientContext context;
  const Stream stream = stub_->LookupStream(&context);
  ASSERT_TRUE(stream->Write(Request(later_id_, 1, 10)));
  deferred_.AwaitBegun(1);
  grpc::ClientContext unary_context;
  grpc::CompletionQueue queue;
  auto call = stub_->AsyncLookup(&unary_context, Request(later_id_, 2, 10), &queue);
  v1::LookupResponse response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  deferred_.AwaitBegun(2);
  Stop();
  EXPECT_EQ(deferred_.pinned(), 0u);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_FALSE(status.ok());
  EXPECT_FALSE(stream->Finish().ok());
}

// Streams that are read from, or written to, when the server ends, time after time.
TEST_F(DeferredRowsTest, ALoopEndsWhateverItsStreamsAreAt) {
  for (int round = 0; round < 20; ++round) {
    grpc::ClientContext context;
    const Stream stream = stub_->LookupStream(&context);
    for (uint64_t id = 1; id < 20; ++id) {
      ASSERT_TRUE(stream->Write(Request(resident_id_, id, 1 + 500 * (round % 4))));
    }
    if (round % 2 == 0) Read(stream, 1);
    Stop();
    v1::LookupResponse response;
    while (stream->Read(&response)) {
    }
    EXPECT_FALSE(stream->Finish().ok());
    Start();
  }
}

}  // namespace
}  // namespace engram
