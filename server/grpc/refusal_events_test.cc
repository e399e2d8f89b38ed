// What the log and the counters have of lookups that are refused, through gRPC and a loop.
#include <grpcpp/grpcpp.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/log.h"
#include "server/grpc/testing/loop_fixture.h"

namespace engram {
namespace {

using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr char kToken[] = "a-token-that-is-long-enough-to-be-one";

class RefusalEvents : public testing::LoopFixture {
 protected:
  void SetUp() override {
    testing::LoopFixture::SetUp();
    Stop();
    ::testing::internal::CaptureStderr();
    context_.log = MakeLog(/*json=*/true, "info");
    Start();
  }
  void TearDown() override {
    testing::LoopFixture::TearDown();
    if (captures_) ::testing::internal::GetCapturedStderr();
  }
  // Of lookups, once the loop has ended.
  std::vector<nlohmann::json> Events() {
    Stop();
    captures_ = false;
    std::vector<nlohmann::json> events;
    const std::string text = ::testing::internal::GetCapturedStderr();
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      nlohmann::json event = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (event.is_object()) events.push_back(std::move(event));
    }
    return events;
  }
  uint64_t Answers(Path path, absl::StatusCode code) const {
    return metrics_.Sum().requests[static_cast<size_t>(path)][StatusCodeIndex(code)];
  }
  uint64_t Rejections(Rejection why) const {
    return metrics_.Sum().rejections[static_cast<size_t>(why)];
  }
  static void ExpectRefused(const nlohmann::json& event, const char* transport, const char* code) {
    EXPECT_EQ(event["event"], "lookup_refused") << event;
    EXPECT_EQ(event["transport"], transport) << event;
    EXPECT_EQ(event["code"], code) << event;
    EXPECT_THAT(event["peer"].get<std::string>(), StartsWith("ipv4:127.0.0.1:"));
    EXPECT_TRUE(event["seconds"].is_number()) << event;
    EXPECT_FALSE(event["reason"].get<std::string>().empty()) << event;
  }

 private:
  bool captures_ = true;  // standard error
};

TEST_F(RefusalEvents, ALookupOfASetThatIsNotServedNamesTheSet) {
  grpc::ClientContext context;
  v1::LookupResponse response;
  EXPECT_EQ(stub_->Lookup(&context, Request("of\nno set", 7, 1), &response).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  const std::vector<nlohmann::json> events = Events();
  ASSERT_THAT(events, SizeIs(1));
  ExpectRefused(events[0], "grpc_unary", "FAILED_PRECONDITION");
  EXPECT_EQ(events[0]["table_set_id"], "of\\nno set");
  EXPECT_EQ(events[0]["batch_id"].get<uint64_t>(), 7u);
  EXPECT_EQ(Answers(Path::kGrpcUnary, absl::StatusCode::kFailedPrecondition), 1u);
}

TEST_F(RefusalEvents, ABatchOfAStreamThatAsksWronglyNamesItsSet) {
  grpc::ClientContext context;
  const Stream stream = stub_->LookupStream(&context);
  v1::LookupRequest request = Request(resident_id_, 3, 1);
  request.mutable_layers(0)->set_row_ids32(0, 4'000'000'000);
  ASSERT_TRUE(stream->Write(request));
  EXPECT_NE(Read(stream, 3).code(), 0u);
  const std::vector<nlohmann::json> events = Events();
  ASSERT_THAT(events, SizeIs(1));
  ExpectRefused(events[0], "grpc_stream", "INVALID_ARGUMENT");
  EXPECT_EQ(events[0]["table_set_id"], resident_id_);
  EXPECT_EQ(Answers(Path::kGrpcStream, absl::StatusCode::kInvalidArgument), 1u);
}

TEST_F(RefusalEvents, ARequestThatEndsItsStreamIsTold) {
  grpc::ClientContext context;
  const Stream stream = stub_->LookupStream(&context);
  ASSERT_TRUE(stream->Write(Request(later_id_, 1, 1)));
  deferred_.AwaitBegun(1);
  ASSERT_TRUE(stream->Write(Request(later_id_, 1, 1)));
  while (Answers(Path::kGrpcStream, absl::StatusCode::kInvalidArgument) == 0) {
    std::this_thread::yield();
  }
  deferred_.Complete();
  Read(stream, 1);
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const std::vector<nlohmann::json> events = Events();
  ASSERT_THAT(events, SizeIs(1));
  ExpectRefused(events[0], "grpc_stream", "INVALID_ARGUMENT");
  EXPECT_EQ(events[0]["table_set_id"], later_id_);
  EXPECT_EQ(Answers(Path::kGrpcStream, absl::StatusCode::kInvalidArgument), 1u);
}

TEST_F(RefusalEvents, AStreamOfNobodyKnownIsTold) {
  StartAgainForToken(kToken);
  grpc::ClientContext context;
  const Stream stream = stub_->LookupStream(&context);
  stream->WritesDone();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  const std::vector<nlohmann::json> events = Events();
  ASSERT_THAT(events, SizeIs(1));
  ExpectRefused(events[0], "grpc_stream", "UNAUTHENTICATED");
  EXPECT_EQ(Rejections(Rejection::kUnauthenticated), 1u);
}

TEST_F(RefusalEvents, AStreamThatFindsNoPlaceIsTold) {
  // All, of clients that are served and give no way.
  std::vector<std::unique_ptr<Places::Place>> others;
  for (uint64_t connection = 1; connection <= kMaxStreams; ++connection) {
    others.push_back(std::make_unique<Places::Place>());
    ASSERT_EQ(context_.streams.Take(
                  connection, clock_.Now(), [] {}, others.back().get()),
              Places::Answer::kTaken);
    others.back()->Served(clock_.Now() + absl::Hours(24));
  }
  grpc::ClientContext context;
  const Stream stream = stub_->LookupStream(&context);
  stream->WritesDone();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const std::vector<nlohmann::json> events = Events();
  ASSERT_THAT(events, SizeIs(1));
  ExpectRefused(events[0], "grpc_stream", "RESOURCE_EXHAUSTED");
  EXPECT_EQ(Rejections(Rejection::kQueueFull), 1u);
}

}  // namespace
}  // namespace engram
