#include "client/transport/rdma/rdma_lease.h"

#include <arpa/inet.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "memstore/store/testing/small_table_set.h"
#include "proto/wire/features.h"

namespace engram {
namespace {

// Answers as many requests of a lease as a test says, and then only listens. Its version is the
// number of the lease.
class QuietOwner final : public v1::Lookup::Service {
 public:
  QuietOwner(Manifest manifest, int answers) : manifest_(std::move(manifest)), answers_(answers) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~QuietOwner() override {
    Release();
    server_->Shutdown(std::chrono::system_clock::now());
  }
  int port() const { return port_; }
  // From here on leases wait for Release before they are answered.
  void Hold() { held_ = true; }
  void Release() {
    held_ = false;
    held_.notify_all();
  }
  void AwaitLeases(int number) const {
    for (int leases = leases_; leases < number; leases = leases_) leases_.wait(leases);
  }

  grpc::Status Attach(grpc::ServerContext*, const v1::AttachRequest*,
                      v1::AttachResponse* response) override {
    response->set_table_set_id(manifest_.id);
    response->set_manifest(manifest_.text);
    return grpc::Status::OK;
  }
  grpc::Status AttachRdma(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<v1::RdmaAttachResponse, v1::RdmaAttachRequest>* stream) override {
    v1::RdmaAttachRequest request;
    v1::RdmaAttachResponse offer;
    offer.mutable_offer()->set_engram_version(absl::StrCat(++leases_));
    leases_.notify_all();
    offer.mutable_offer()->add_features(std::string(wire::kImageChecks));
    for (int i = 0; stream->Read(&request); ++i) {
      if (request.has_forget()) return {grpc::StatusCode::PERMISSION_DENIED, "not yours"};
      held_.wait(true);
      if (i < answers_) stream->Write(offer);
    }
    return grpc::Status::OK;
  }

 private:
  const Manifest manifest_;
  const int answers_;
  std::atomic<int> leases_{0};
  std::atomic<bool> held_{false};
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// Takes connections at a port and never says a word.
class DeafListener {
 public:
  explicit DeafListener(int port) : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int on = 1;
    setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(socket_, 16), 0);
  }
  ~DeafListener() { close(socket_); }
  DeafListener(const DeafListener&) = delete;
  DeafListener& operator=(const DeafListener&) = delete;

 private:
  const int socket_;
};

class RdmaLeaseTest : public ::testing::Test {
 protected:
  void AttachTo(int answers) {
    const Manifest manifest =
        testing::WriteSmallTableSet({}, ::testing::TempDir() + "/rdma_lease_test").value();
    owner_ = std::make_unique<QuietOwner>(manifest, answers);
    route_.grpc =
        GrpcAttachment::Create(absl::StrCat("127.0.0.1:", owner_->port()), "", {.clock = &clock_})
            .value();
    route_.set_id = manifest.id;
  }
  // What a call that has a second ends with once that is over.
  absl::Status WhenLate(const std::function<absl::Status(MonotonicTime deadline)>& call) {
    absl::Status status;
    const MonotonicTime deadline = clock_.After(absl::Seconds(1));
    std::thread calls([&] { status = call(deadline); });
    clock_.AwaitWaiters(1);
    clock_.Advance(absl::Seconds(1));
    calls.join();
    return status;
  }

  FakeClock clock_;
  std::unique_ptr<QuietOwner> owner_;
  RdmaRoute route_;
};

TEST_F(RdmaLeaseTest, TakesTheOwnersOfferAndItsWordAtTheEnd) {
  AttachTo(/*answers=*/1);
  const auto lease = RdmaLease::Open(route_, MonotonicTime::Infinite());
  ASSERT_TRUE(lease.ok()) << lease.status();
  EXPECT_EQ((*lease)->owner_features().version, "1");
  EXPECT_TRUE((*lease)->owner_features().image_checks);
  EXPECT_FALSE((*lease)->owner_features().token_slices);
  EXPECT_FALSE((*lease)->ended());
  EXPECT_EQ((*lease)->Forget(1).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE((*lease)->ended());
  EXPECT_EQ((*lease)->End().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ((*lease)->Forget(1).code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(RdmaLeaseTest, OpeningEndsByItsDeadlineWhereTheOwnerDoesNotAnswer) {
  AttachTo(/*answers=*/0);
  EXPECT_EQ(WhenLate([&](MonotonicTime deadline) {
              return RdmaLease::Open(route_, deadline).status();
            }).code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(RdmaLeaseTest, WhoeverHasNoTimeLeavesTheOfferToTheNext) {
  AttachTo(/*answers=*/1);
  const auto lease = RdmaLease::Begin(route_);
  ASSERT_TRUE(lease.ok()) << lease.status();
  absl::Status offered = (*lease)->AwaitOffer(clock_.Now());
  if (!offered.ok()) {  // else it was there already
    EXPECT_EQ(offered.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_FALSE((*lease)->ended());
    offered = (*lease)->AwaitOffer(MonotonicTime::Infinite());
  }
  EXPECT_TRUE(offered.ok()) << offered;
  EXPECT_EQ((*lease)->owner_features().version, "1");
  // And it is one like any other.
  EXPECT_EQ((*lease)->Forget(1).code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(RdmaLeaseTest, AnOwnerThatDoesNotAnswerIsAwaitedAsOftenAsOneLikes) {
  AttachTo(/*answers=*/0);
  const auto lease = RdmaLease::Begin(route_);
  ASSERT_TRUE(lease.ok()) << lease.status();
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(
        WhenLate([&](MonotonicTime deadline) { return (*lease)->AwaitOffer(deadline); }).code(),
        absl::StatusCode::kDeadlineExceeded);
  }
  EXPECT_FALSE((*lease)->ended());
}

TEST_F(RdmaLeaseTest, TheNextAskerGoesOnWithTheLeaseThatWasBegun) {
  AttachTo(/*answers=*/1);
  owner_->Hold();
  RdmaNextLease next;
  for (int i = 0; i < 2; ++i) {
    const absl::Status late =
        WhenLate([&](MonotonicTime deadline) { return next.Await(route_, deadline).status(); });
    EXPECT_EQ(late.code(), absl::StatusCode::kUnavailable) << late;
    owner_->AwaitLeases(1);
  }
  owner_->Release();
  const auto first = next.Await(route_, MonotonicTime::Infinite());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ((*first)->owner_features().version, "1");
  // What was given out is not given out again.
  const auto second = next.Await(route_, MonotonicTime::Infinite());
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ((*second)->owner_features().version, "2");
}

// The owner lets one go that is not connected in time.
TEST_F(RdmaLeaseTest, ALeaseThatWasBegunTooLongAgoIsBegunAnew) {
  AttachTo(/*answers=*/1);
  owner_->Hold();
  RdmaNextLease next;
  EXPECT_EQ(WhenLate([&](MonotonicTime deadline) {
              return next.Await(route_, deadline).status();
            }).code(),
            absl::StatusCode::kUnavailable);
  owner_->AwaitLeases(1);
  clock_.Advance(kKeptLeaseTime);
  owner_->Release();
  const auto lease = next.Await(route_, MonotonicTime::Infinite());
  ASSERT_TRUE(lease.ok()) << lease.status();
  EXPECT_EQ((*lease)->owner_features().version, "2");
}

TEST_F(RdmaLeaseTest, OpeningEndsByItsDeadlineWhereTheOwnerCannotBeReached) {
  AttachTo(/*answers=*/1);
  const int port = owner_->port();
  owner_.reset();
  const DeafListener listener(port);
  EXPECT_TRUE(route_.grpc->channel()->WaitForStateChange(
      GRPC_CHANNEL_READY, std::chrono::system_clock::now() + std::chrono::minutes(1)));
  EXPECT_EQ(WhenLate([&](MonotonicTime deadline) {
              return RdmaLease::Open(route_, deadline).status();
            }).code(),
            absl::StatusCode::kUnavailable);
  // It ended before gRPC gave the connection up.
  EXPECT_NE(route_.grpc->channel()->GetState(false), GRPC_CHANNEL_TRANSIENT_FAILURE);
}

TEST_F(RdmaLeaseTest, ConnectingEndsByItsDeadlineAndTheLeaseWithIt) {
  AttachTo(/*answers=*/1);
  const auto lease = RdmaLease::Open(route_, MonotonicTime::Infinite());
  ASSERT_TRUE(lease.ok()) << lease.status();
  const auto connect = [&](MonotonicTime deadline) {
    return (*lease)->Connect(0, {.queue_pair = 1, .mtu = 5}, deadline).status();
  };
  EXPECT_EQ(WhenLate(connect).code(), absl::StatusCode::kUnavailable);
  // No other call is asked, or waits.
  EXPECT_EQ(connect(MonotonicTime::Infinite()).code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace engram
