// A server that answers every attach with one table set, consistently, whatever was asked for.
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/follower.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class OneAnswer final : public v1::Lookup::Service {
 public:
  explicit OneAnswer(const std::string& set) {
    answer_.set_table_set_id(ReadFile(set + "/manifest.sha256").substr(0, 64));
    answer_.set_manifest(ReadFile(set + "/manifest.textproto"));
  }
  grpc::Status Attach(grpc::ServerContext*, const v1::AttachRequest*,
                      v1::AttachResponse* response) override {
    *response = answer_;
    return grpc::Status::OK;
  }
  const std::string& id() const { return answer_.table_set_id(); }

 private:
  v1::AttachResponse answer_;
};

class LyingServer : public ::testing::Test {
 protected:
  LyingServer() {
    PackSmallSet("longcat-flash-lite", 300, scratch_ / "answered");
    PackSmallSet("qwen4-exp", 300, scratch_ / "asked");
    asked_id_ = ReadFile(scratch_ / "asked/manifest.sha256").substr(0, 64);
    answer_ = std::make_unique<OneAnswer>(scratch_ / "answered");
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(answer_.get());
    server_ = builder.BuildAndStart();
    address_ = absl::StrCat("127.0.0.1:", port);
  }
  AttachOptions Asking(const std::string& table_set) const {
    return {.table_set = table_set, .timeout = absl::Seconds(20)};
  }

  ScratchDirectory scratch_;
  std::string asked_id_;
  std::unique_ptr<OneAnswer> answer_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

TEST_F(LyingServer, AnotherSetThanTheOneAskedForIsNotTaken) {
  for (const std::string scheme : {"grpc:", "auto:", "rdma:"}) {
    for (const std::string& asked : {asked_id_, std::string("qwen4-exp")}) {
      const absl::Status status = Client::Attach(scheme + address_, Asking(asked)).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << scheme << asked << status;
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr(asked), HasSubstr(answer_->id()), HasSubstr(address_)))
          << scheme;
    }
  }
}

TEST_F(LyingServer, AFollowerTakesNoOtherEither) {
  for (const std::string& asked : {asked_id_, std::string("qwen4-exp")}) {
    const absl::Status status = Follower::Attach("grpc:" + address_, Asking(asked), {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  }
}

// An id is what its digits are, never a name; a name is the manifest's, to the letter.
TEST_F(LyingServer, WhatLooksAlikeIsAnother) {
  std::string close = answer_->id();
  close.back() = close.back() == '0' ? '1' : '0';
  for (const std::string& asked :
       {close, close.substr(1), answer_->id().substr(0, 11), answer_->id() + "0",
        std::string("longcat-flash"), std::string("Longcat-Flash-Lite")}) {
    const absl::Status status = Client::Attach("grpc:" + address_, Asking(asked)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << asked << status;
  }
}

TEST_F(LyingServer, WhatWasAskedForIsTaken) {
  for (const std::string& asked : {answer_->id(), answer_->id().substr(0, 12),
                                   std::string("longcat-flash-lite"), std::string()}) {
    const auto client = Client::Attach("grpc:" + address_, Asking(asked));
    ASSERT_TRUE(client.ok()) << asked << client.status();
    EXPECT_EQ((*client)->table_set().id, answer_->id());
  }
}

}  // namespace
}  // namespace engram::integration
