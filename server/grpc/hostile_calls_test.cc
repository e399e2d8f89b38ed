// Clients that take nothing, finish nothing, or keep places without using them, through gRPC and a
// loop: what others get meanwhile.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/rdma/request.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "server/grpc/testing/loop_fixture.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// An HTTP/2 frame.
std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, const std::string& payload) {
  std::string frame;
  for (const int shift : {16, 8, 0}) frame.push_back(static_cast<char>(payload.size() >> shift));
  frame.push_back(static_cast<char>(type));
  frame.push_back(static_cast<char>(flags));
  for (const int shift : {24, 16, 8, 0}) frame.push_back(static_cast<char>(stream >> shift));
  return frame + payload;
}

class HostileCallsTest : public testing::LoopFixture {
 protected:
  void TearDown() override {
    for (const int fd : sockets_) close(fd);
    LoopFixture::TearDown();
  }
  // A connection without gRPC at its end.
  int ConnectSocket() {
    const std::vector<std::string> parts = absl::StrSplit(address_, ':');
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(parts[1], &port));
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(static_cast<uint16_t>(port));
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sockets_.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(connect(sockets_.back(), reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
    Send(sockets_.back(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(4, 0, 0, ""));
    return sockets_.back();
  }
  static void Send(int fd, const std::string& bytes) {
    EXPECT_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // The beginning of a call of one message of a megabyte.
  static std::string Unfinished(const std::string& path, uint32_t stream) {
    std::string head = "\x83\x86\x04";
    head += static_cast<char>(path.size()) + path;
    head += "\x41\x01x\x5f\x10";
    head += "application/grpc";
    head += "\x40\x02te\x08trailers";
    std::string message("\0\0\x10\0\0", 5);
    message.resize(1000);
    return Frame(1, 4, stream, head) + Frame(0, 0, stream, message);
  }
  static void Await(const Places& places, uint32_t taken) {
    while (places.taken() != taken) std::this_thread::yield();
  }
  grpc::StatusCode CheckHealth() {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckResponse response;
    return grpc::health::v1::Health::NewStub(Connect())
        ->Check(&context, {}, &response)
        .error_code();
  }

  std::vector<int> sockets_;
};

TEST_F(HostileCallsTest, AnswersThatNobodyTakesKeepNoOtherFromItsOwn) {
  struct Call {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientAsyncResponseReader<v1::AttachResponse>> reader;
  };
  // Its windows take a few bytes.
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16);
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<v1::Lookup::Stub>> stubs;
  std::vector<std::unique_ptr<Call>> calls;
  v1::AttachRequest request;
  request.set_table_set("other");
  for (int i = 0; i < 4; ++i) {
    stubs.push_back(v1::Lookup::NewStub(
        grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments)));
    for (int j = 0; j < 100; ++j) {
      calls.push_back(std::make_unique<Call>());
      calls.back()->reader = stubs.back()->AsyncAttach(&calls.back()->context, request, &queue);
      calls.back()->reader->ReadInitialMetadata(nullptr);
      void* tag = nullptr;
      bool ok = false;
      ASSERT_TRUE(queue.Next(&tag, &ok));
    }
    EXPECT_EQ(CheckHealth(), grpc::StatusCode::OK);
    grpc::ClientContext context;
    v1::AttachResponse response;
    const grpc::Status attached =
        v1::Lookup::NewStub(Connect())->Attach(&context, request, &response);
    EXPECT_TRUE(attached.ok()) << attached.error_message();
  }
  EXPECT_LE(context_.unary_method_calls.taken(), kMaxUnaryMethodCalls);
  for (const auto& call : calls) call->context.TryCancel();
  queue.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue.Next(&tag, &ok)) {
  }
}

// The bytes of the answer are more than its client's window takes: it is under way for good.
TEST_F(HostileCallsTest, AnRdmaClientThatTakesNoAnswerEndsWithItsToken) {
  const std::string token = "a-token-that-is-long-enough-to-be-one";
  StartAgainForToken(token);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16);
  const auto stub = v1::Lookup::NewStub(
      grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments));
  grpc::ClientContext context;
  context.AddMetadata("authorization", absl::StrCat("Bearer ", token));
  const auto stream = stub->AttachRdma(&context);
  v1::RdmaAttachRequest request;
  request.mutable_open()->set_version(kRdmaVersion);
  request.mutable_open()->set_table_set_id(resident_id_);
  ASSERT_TRUE(stream->Write(request));
  stream->WaitForInitialMetadata();  // which goes with the answer
  EXPECT_EQ(context_.side_calls.taken(), 1u);
  WriteToken("another-token-that-is-long-enough-to-be-one");
  tokens_->ReadNow();
  clock_.Advance(absl::FromChrono(kMaxWriteStall) + absl::Seconds(1));
  Await(context_.side_calls, 0);
}

// However often it says something: what it gets is errors.
TEST_F(HostileCallsTest, AStreamThatIsNeverServedGivesWayToTheNext) {
  grpc::ClientContext context;
  const Stream silent = stub_->LookupStream(&context);
  ASSERT_TRUE(silent->Write(Request("of no set", 1, 1)));
  EXPECT_NE(Read(silent, 1).code(), 0u);
  std::vector<std::unique_ptr<Places::Place>> others;
  for (uint64_t connection = 1; connection < kMaxStreams; ++connection) {
    others.push_back(std::make_unique<Places::Place>());
    ASSERT_EQ(context_.streams.Take(
                  connection, clock_.Now(), [] { FAIL() << "one that is served gave way"; },
                  others.back().get()),
              Places::Answer::kTaken);
    others.back()->Served(clock_.Now() - absl::Hours(1));
  }
  clock_.Advance(absl::Seconds(60));
  v1::LookupRequest cancel;
  cancel.set_batch_id(77);
  cancel.set_cancel(true);
  ASSERT_TRUE(silent->Write(cancel));
  ASSERT_TRUE(silent->Write(Request("of no set", 2, 1)));
  EXPECT_NE(Read(silent, 2).code(), 0u);
  const auto stub = v1::Lookup::NewStub(Connect());
  grpc::ClientContext other_context;
  const Stream other = stub->LookupStream(&other_context);
  const v1::LookupRequest request = Request(resident_id_, 1, 10);
  ASSERT_TRUE(other->Write(request));
  ExpectRows(request, Read(other, 1).layers(0));
  const grpc::Status ended = silent->Finish();
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(ended.error_message(), HasSubstr("open it again"));
}

TEST_F(HostileCallsTest, AConnectionThatHasItsShareOfStreamsIsToldSo) {
  std::vector<std::unique_ptr<Places::Place>> others;
  for (uint64_t connection = 1; connection < kMaxStreams; ++connection) {
    others.push_back(std::make_unique<Places::Place>());
    others.back()->WaitsForClient(false);
    ASSERT_EQ(context_.streams.Take(
                  connection, clock_.Now(), [] {}, others.back().get()),
              Places::Answer::kTaken);
  }
  others.back()->Leave();  // two are left
  grpc::ClientContext first_context, second_context;
  const Stream first = stub_->LookupStream(&first_context);
  ASSERT_TRUE(first->Write(Request(resident_id_, 1, 10)));
  EXPECT_EQ(Read(first, 1).code(), 0u);
  const Stream second = stub_->LookupStream(&second_context);
  const grpc::Status refused = second->Finish();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(), HasSubstr("this connection has its share"));
}

// A call has its place from its first bytes, whatever its method, and not for ever.
TEST_F(HostileCallsTest, RequestsThatAreNotFinishedAreEnded) {
  const std::pair<const char*, const Places*> methods[] = {
      {"/engram.v1.Lookup/Lookup", &context_.unary_calls},
      {"/engram.v1.Lookup/Attach", &context_.unary_method_calls},
      {"/engram.v1.Lookup/Watch", &context_.side_calls},
      {"/grpc.health.v1.Health/Check", &context_.health_calls}};
  for (const auto& [path, places] : methods) {
    const int fd = ConnectSocket();
    for (uint32_t i = 0; i < 20; ++i) Send(fd, Unfinished(path, 2 * i + 1));
    Await(*places, 20);
    EXPECT_EQ(CheckHealth(), grpc::StatusCode::OK);
    grpc::ClientContext context;
    v1::LookupResponse response;
    const grpc::Status status = stub_->Lookup(&context, Request(resident_id_, 1, 10), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    clock_.Advance(absl::FromChrono(kMaxRequestTime) + absl::Seconds(1));
    Await(*places, 0);
  }
}

// Its client is gone with all of them.
TEST_F(HostileCallsTest, UnfinishedRequestsGoWithTheirConnection) {
  const int fd = ConnectSocket();
  for (uint32_t i = 0; i < 20; ++i) Send(fd, Unfinished("/engram.v1.Lookup/Lookup", 2 * i + 1));
  Await(context_.unary_calls, 20);
  shutdown(fd, SHUT_RDWR);
  Await(context_.unary_calls, 0);
}

TEST_F(HostileCallsTest, UnfinishedRequestsEndWithTheLoop) {
  const int fd = ConnectSocket();
  Send(fd, Unfinished("/engram.v1.Lookup/Lookup", 1) + Unfinished("/engram.v1.Lookup/Describe", 3) +
               Unfinished("/grpc.health.v1.Health/Watch", 5) +
               Unfinished("/engram.v1.Lookup/Watch", 7));
  Await(context_.side_calls, 1);
  Stop();
  EXPECT_EQ(context_.side_calls.taken(), 0u);
  EXPECT_EQ(context_.unary_calls.taken(), 0u);
}

// And a drain does not wait for them.
TEST_F(HostileCallsTest, UnfinishedRequestsHoldNoDrain) {
  const int fd = ConnectSocket();
  Send(fd, Unfinished("/engram.v1.Lookup/Lookup", 1) + Unfinished("/engram.v1.Lookup/Attach", 3));
  Await(context_.unary_calls, 1);
  Await(context_.unary_method_calls, 1);
  loop_->Drain();
  while (!loop_->Ended()) std::this_thread::yield();
}

TEST_F(HostileCallsTest, AMethodThatIsNotHereIsNamedWithThePortThatHasIt) {
  grpc::GenericStub stub(Connect());
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto call =
      stub.PrepareUnaryCall(&context, "/engram.v1.Admin/List", grpc::ByteBuffer(), &queue);
  call->StartCall();
  grpc::ByteBuffer answer;
  grpc::Status status;
  call->Finish(&answer, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(),
              AllOf(HasSubstr("/engram.v1.Admin/List"), HasSubstr("--admin-grpc-listen")));
}

TEST_F(HostileCallsTest, ABatchWithoutTimeIsToldThatItHadNone) {
  StartAgainBySteps(absl::Microseconds(10));
  grpc::ClientContext context;
  const Stream stream = stub_->LookupStream(&context);
  v1::LookupRequest request = Request(resident_id_, 1, 10);
  request.set_timeout_us(1);
  ASSERT_TRUE(stream->Write(request));
  const v1::LookupResponse response = Read(stream, 1);
  EXPECT_EQ(response.code(), static_cast<uint32_t>(absl::StatusCode::kDeadlineExceeded));
  EXPECT_THAT(response.message(), HasSubstr("give it more (timeout_us"));
}

}  // namespace
}  // namespace engram
