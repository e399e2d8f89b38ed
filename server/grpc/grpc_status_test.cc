#include "server/grpc/grpc_status.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "proto/google/rpc/retry.pb.h"

namespace engram {
namespace {

TEST(ToGrpc, KeepsCodeAndMessage) {
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  const grpc::Status status = ToGrpc(absl::FailedPreconditionError("no such set"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(status.error_message(), "no such set");
  EXPECT_TRUE(status.error_details().empty());
}

TEST(ToGrpc, TellsAClientThatWasTurnedAwayWhenToAskAgain) {
  const grpc::Status status = ToGrpc(absl::ResourceExhaustedError("full"));
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), static_cast<int>(grpc::StatusCode::RESOURCE_EXHAUSTED));
  EXPECT_EQ(details.message(), "full");
  ASSERT_EQ(details.details_size(), 1);
  EXPECT_EQ(details.details(0).type_url(), "type.googleapis.com/google.rpc.RetryInfo");
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(details.details(0).UnpackTo(&retry));
  EXPECT_GT(retry.retry_delay().nanos(), 0);
}

// gRPC's clients take 8 KiB of headers, and lose the whole message where there are more.
TEST(ToGrpc, LeavesOutTheMiddleOfAMessageThatNoHeaderTakes) {
  std::string path;
  while (path.size() < 100'000) path += "表";  // a header has nine bytes for each
  const grpc::Status status =
      ToGrpc(absl::ResourceExhaustedError(absl::StrCat("no room for ", path, ": give less")));
  EXPECT_LT(3 * status.error_message().size() + status.error_details().size() * 4 / 3, 8000u);
  EXPECT_EQ(status.error_message().find("no room for "), 0u);
  EXPECT_NE(status.error_message().find(": give less"), std::string::npos);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(status.error_details()));
}

}  // namespace
}  // namespace engram
