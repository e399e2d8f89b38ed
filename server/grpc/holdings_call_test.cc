// Holdings through gRPC and a loop: what is told when, and who has a lease for how long.
#include "server/grpc/holdings_call.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/grpc/testing/loop_fixture.h"

namespace engram {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::SizeIs;

constexpr absl::Duration kTick = absl::Milliseconds(250);

class HoldingsCallTest : public testing::LoopFixture {
 protected:
  struct Call {
    ~Call() {
      context.TryCancel();
      if (reader.joinable()) reader.join();
    }
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReaderWriter<v1::HoldingsRequest, v1::HoldingsResponse>> stream;

    v1::HoldingsResponse Read() {
      v1::HoldingsResponse response;
      EXPECT_TRUE(stream->Read(&response));
      return response;
    }
    bool Use(const std::vector<std::string>& ids) {
      v1::HoldingsRequest request;
      for (const std::string& id : ids) request.add_table_set_ids(id);
      return stream->Write(request);
    }
    // From here on all that comes is read, and passed over.
    void ReadOn() {
      reader = std::thread([this] { ReadToEnd(); });
    }
    void ReadToEnd() {
      v1::HoldingsResponse response;
      while (stream->Read(&response)) {
      }
    }
    grpc::Status End() {
      if (reader.joinable()) {
        reader.join();
      } else {
        ReadToEnd();
      }
      return stream->Finish();
    }
    std::thread reader;
  };
  std::unique_ptr<Call> Open(const std::string& token = "") {
    auto call = std::make_unique<Call>();
    if (!token.empty()) call->context.AddMetadata("authorization", "Bearer " + token);
    call->stream = stub_->Holdings(&call->context);
    return call;
  }
  // While the clock goes on from tick to tick, slower than the loop, which answers many times in
  // each: a client that is not scheduled for some milliseconds must not look as one that takes
  // nothing for ten seconds.
  void Await(absl::FunctionRef<bool()> done) {
    constexpr int kAnswersOfATick = 50;
    for (int answers = 0; !done(); ++answers) {
      if (answers % kAnswersOfATick == 0) clock_.Advance(kTick);
      grpc::ClientContext context;
      v1::DescribeResponse response;
      stub_->Describe(&context, {}, &response);
    }
  }
  // What it says next that is so, while the clock goes on in the same way.
  v1::HoldingsResponse Next(Call& call,
                            absl::FunctionRef<bool(const v1::HoldingsResponse&)> is_so) {
    std::atomic<bool> heard{false};
    std::thread pump([&] { Await([&] { return heard.load(); }); });
    v1::HoldingsResponse response;
    do {
      response = call.Read();
    } while (!is_so(response) && !HasFailure());
    heard = true;
    pump.join();
    return response;
  }
  uint32_t Leases(const std::string& id) const {
    return registry_.ResolveServed(id)->leases->of(LeaseKind::kHoldings);
  }
};

TEST_F(HoldingsCallTest, AllIsSaidAtOnce) {
  const auto call = Open();
  const v1::HoldingsResponse response = call->Read();
  EXPECT_THAT(response.instance_id(), MatchesRegex("[0-9a-f]{32}"));
  EXPECT_EQ(response.zone(), "rack-7");
  EXPECT_EQ(response.load(), 0.25);
  ASSERT_THAT(response.sets(), SizeIs(2));
  EXPECT_EQ(response.sets(0).id(), later_id_);
  EXPECT_EQ(response.sets(1).id(), resident_id_);
  EXPECT_EQ(response.sets(1).state(), v1::HOLDING_STATE_SERVING);
  EXPECT_EQ(response.sets(1).layers(0).table_rows(), 5000u);
  call->context.TryCancel();
}

TEST_F(HoldingsCallTest, ChangesAreToldAndTheLoadWithoutOne) {
  const auto call = Open();
  EXPECT_EQ(call->Read().sets(0).state(), v1::HOLDING_STATE_SERVING);
  ASSERT_TRUE(registry_.Supersede(later_id_).ok());
  Next(*call, [](const v1::HoldingsResponse& response) {
    return response.sets(0).state() == v1::HOLDING_STATE_SUPERSEDED;
  });
  generations_.Publish("other", resident_id_, 3);
  Next(*call,
       [](const v1::HoldingsResponse& response) { return response.sets(1).generation() == 3; });
  load_ = 0.5;
  Next(*call, [](const v1::HoldingsResponse& response) { return response.load() == 0.5; });
  call->context.TryCancel();
}

TEST_F(HoldingsCallTest, ASetIsLeasedForAsLongAsItIsSaidToBeUsed) {
  const auto call = Open();
  call->ReadOn();
  const std::string unknown(64, 'f');
  ASSERT_TRUE(call->Use({resident_id_, unknown, resident_id_}));
  Await([&] { return Leases(resident_id_) == 1; });
  EXPECT_EQ(Leases(later_id_), 0u);
  // Said again, it replaces what was said before.
  ASSERT_TRUE(call->Use({later_id_}));
  Await([&] { return Leases(later_id_) == 1; });
  EXPECT_EQ(Leases(resident_id_), 0u);
  // One that was superseded is leased as well, also when that comes between.
  ASSERT_TRUE(registry_.Supersede(later_id_).ok());
  const auto other = Open();
  other->ReadOn();
  ASSERT_TRUE(other->Use({later_id_}));
  Await([&] { return Leases(later_id_) == 2; });
  // The one lets go, the other dies.
  ASSERT_TRUE(call->stream->WritesDone());
  EXPECT_TRUE(call->End().ok());
  Await([&] { return Leases(later_id_) == 1; });
  other->context.TryCancel();
  Await([&] { return Leases(later_id_) == 0; });
}

TEST_F(HoldingsCallTest, ASetThatComesLaterIsLeasedThen) {
  ASSERT_TRUE(registry_.Retire(resident_id_).ok());
  const auto call = Open();
  call->ReadOn();
  ASSERT_TRUE(call->Use({resident_id_, later_id_}));
  Await([&] { return Leases(later_id_) == 1; });
  ASSERT_TRUE(registry_.Publish(TableSet::Load(*other_directory_, {}).value()).ok());
  Await([&] { return Leases(resident_id_) == 1; });
  call->context.TryCancel();
}

TEST_F(HoldingsCallTest, WhatMakesNoSenseEndsTheCall) {
  std::vector<std::string> many;
  for (size_t i = 0; i <= kMaxUsedSets; ++i) {
    many.push_back(absl::StrCat(std::string(61, 'a'), absl::Dec(i, absl::kZeroPad3)));
  }
  const std::vector<std::string> thousands(5000, std::string(64, 'a'));
  for (const std::vector<std::string>& ids : {std::vector<std::string>{"other"},
                                              {std::string(63, 'a')},
                                              {std::string(64, 'A')},
                                              {std::string(64, '\n')},
                                              {""},
                                              many,
                                              thousands}) {
    const auto call = Open();
    call->Use(ids);
    const grpc::Status status = call->End();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  }
  while (context_.holdings_calls.taken() > 0) std::this_thread::yield();
}

TEST_F(HoldingsCallTest, BytesThatAreNoRequestEndTheCall) {
  grpc::ClientContext context;
  grpc::GenericStub stub(Connect());
  grpc::CompletionQueue queue;
  const auto stream = stub.PrepareCall(&context, "/engram.v1.Lookup/Holdings", &queue);
  const auto await = [&] {
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok));
    return ok;
  };
  stream->StartCall(nullptr);
  ASSERT_TRUE(await());
  const grpc::Slice garbage(std::string("\xff\xff\xff\xff\x07"));
  stream->Write(grpc::ByteBuffer(&garbage, 1), nullptr);
  ASSERT_TRUE(await());
  grpc::ByteBuffer answer;
  do {
    stream->Read(&answer, nullptr);
  } while (await());
  grpc::Status status;
  stream->Finish(&status, nullptr);
  await();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
}

TEST_F(HoldingsCallTest, AClientThatTakesNothingIsLetGo) {
  // Its windows take a few bytes.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16);
  const auto stub = v1::Lookup::NewStub(
      grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments));
  Call call;
  call.stream = stub->Holdings(&call.context);
  ASSERT_TRUE(call.Use({resident_id_}));
  Await([&] { return Leases(resident_id_) == 1; });
  Await([&] { return context_.holdings_calls.taken() == 0; });
  EXPECT_EQ(Leases(resident_id_), 0u);
}

TEST_F(HoldingsCallTest, AConnectionHasAShareOfThePlaces) {
  std::vector<std::unique_ptr<Places::Place>> others;
  for (uint64_t connection = 1; connection < kMaxHoldingsCalls; ++connection) {
    others.push_back(std::make_unique<Places::Place>());
    others.back()->WaitsForClient(false);
    ASSERT_EQ(context_.holdings_calls.Take(
                  connection, clock_.Now(), [] {}, others.back().get()),
              Places::Answer::kTaken);
  }
  const auto first = Open();
  first->Read();
  const grpc::Status refused = Open()->End();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(), HasSubstr("Holdings streams"));
  EXPECT_EQ(context_.side_calls.taken(), 0u);
  first->context.TryCancel();
  while (context_.holdings_calls.taken() == kMaxHoldingsCalls) std::this_thread::yield();
}

TEST_F(HoldingsCallTest, StoppingIsToldBeforeTheStreamEnds) {
  const auto call = Open();
  call->Read();
  ASSERT_TRUE(call->Use({resident_id_}));
  Next(*call, [&](const v1::HoldingsResponse&) { return Leases(resident_id_) == 1; });
  life_.Advance(LifeState::kDraining);
  Next(*call, [](const v1::HoldingsResponse& response) {
    return response.sets(0).state() == v1::HOLDING_STATE_DRAINING;
  });
  // Leases stay until then.
  EXPECT_EQ(Leases(resident_id_), 1u);
  loop_->Drain();
  const grpc::Status status = call->End();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("engramd is stopping"));
  EXPECT_EQ(Leases(resident_id_), 0u);
  EXPECT_TRUE(loop_->Ended());
  EXPECT_EQ(Open()->End().error_code(), grpc::StatusCode::UNAVAILABLE);
}

// Without a tick between.
TEST_F(HoldingsCallTest, WhoIsToldLateIsToldWithTheEnd) {
  const auto call = Open();
  call->Read();
  life_.Advance(LifeState::kDraining);
  loop_->Drain();
  EXPECT_EQ(call->Read().sets(0).state(), v1::HOLDING_STATE_DRAINING);
  EXPECT_EQ(call->End().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(HoldingsCallTest, NobodyIsToldOfSetsThatHeMayNotHave) {
  const std::string token = "a-token-of-a-worker";
  StartAgainForToken(token);
  Stop();
  access_ = std::make_unique<AccessControl>(AccessControl::Options{
      .tokens = tokens_.get(), .allow = {{.identity = "worker", .table_set = "other"}}});
  context_.access = access_.get();
  Start();
  EXPECT_EQ(Open()->End().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  const auto call = Open(token);
  const v1::HoldingsResponse response = call->Read();
  ASSERT_THAT(response.sets(), SizeIs(1));
  EXPECT_EQ(response.sets(0).id(), resident_id_);
  // Nor is one leased, and nothing is said of it.
  ASSERT_TRUE(call->Use({later_id_, resident_id_}));
  Next(*call, [&](const v1::HoldingsResponse&) { return Leases(resident_id_) == 1; });
  EXPECT_EQ(Leases(later_id_), 0u);
  call->context.TryCancel();
}

}  // namespace
}  // namespace engram
