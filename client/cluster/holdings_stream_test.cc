#include "client/cluster/holdings_stream.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "client/cluster/holdings_message.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "proto/engram/v1/lookup.grpc.pb.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using ServerStream = grpc::ServerReaderWriter<v1::HoldingsResponse, v1::HoldingsRequest>;

v1::HoldingsResponse Holding(uint64_t rows) {
  v1::HoldingsResponse message;
  message.set_instance_id("0123");
  v1::HeldTableSet* const set = message.add_sets();
  set->set_name("x");
  set->set_id(std::string(64, 'a'));
  set->set_state(v1::HOLDING_STATE_SERVING);
  set->add_layers()->set_table_rows(rows);
  return message;
}

// A store that does what the test says, call after call.
class Store final : public v1::Lookup::Service {
 public:
  using Behaviour = std::function<grpc::Status(int call, ServerStream& stream)>;

  explicit Store(Behaviour behaviour) : behaviour_(std::move(behaviour)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~Store() override { server_->Shutdown(std::chrono::system_clock::now()); }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  grpc::Status Holdings(grpc::ServerContext*, ServerStream* stream) override {
    int call = 0;
    {
      MutexLock lock(mutex_);
      call = calls_++;
    }
    const grpc::Status status = behaviour_(call, *stream);
    MutexLock lock(mutex_);
    ++over_;
    return status;
  }
  // Reads until the client is gone.
  grpc::Status ReadAll(ServerStream& stream) {
    v1::HoldingsRequest request;
    while (stream.Read(&request)) {
      MutexLock lock(mutex_);
      used_.push_back({request.table_set_ids().begin(), request.table_set_ids().end()});
    }
    return grpc::Status::OK;
  }
  int calls() const {
    MutexLock lock(mutex_);
    return calls_;
  }
  int over() const {
    MutexLock lock(mutex_);
    return over_;
  }
  // What clients said that they use, one after the other.
  std::vector<std::vector<std::string>> used() const {
    MutexLock lock(mutex_);
    return used_;
  }

 private:
  const Behaviour behaviour_;
  int port_ = 0;
  mutable Mutex mutex_;
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;
  int over_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::vector<std::string>> used_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Server> server_;
};

class Ear final : public HoldingsListener {
 public:
  void Heard(StoreState state) override {
    MutexLock lock(mutex_);
    heard_.push_back(std::move(state));
  }
  void Lost(const std::string&, absl::Status why) override {
    MutexLock lock(mutex_);
    lost_.push_back(std::move(why));
  }
  std::vector<StoreState> heard() const {
    MutexLock lock(mutex_);
    return heard_;
  }
  std::vector<absl::Status> lost() const {
    MutexLock lock(mutex_);
    return lost_;
  }

 private:
  mutable Mutex mutex_;
  std::vector<StoreState> heard_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Status> lost_ ABSL_GUARDED_BY(mutex_);
};

class HoldingsStreamTest : public ::testing::Test {
 protected:
  std::unique_ptr<HoldingsStream> Listen(const std::string& address, Ear* ear) {
    const auto credentials = GrpcCredentials::Create({}, address, clock_).value();
    return std::make_unique<HoldingsStream>(
        HoldingsStream::Options{.address = address,
                                .credentials = credentials,
                                .channel = OpenChannel(address, *credentials),
                                .driver = driver_,
                                .listener = ear,
                                .clock = &clock_});
  }
  // While events are taken, and no time passes.
  void Await(absl::FunctionRef<bool()> done) {
    while (!done()) {
      driver_->TakeReady();
      std::this_thread::yield();
    }
  }

  FakeClock clock_;
  const std::shared_ptr<QueueDriver> driver_ =
      QueueDriver::Create(absl::ZeroDuration(), clock_).value();
  Ear ear_;
};

TEST_F(HoldingsStreamTest, TellsWhatIsHeardAndSaysWhatIsUsed) {
  Store* self = nullptr;
  Store store([&](int, ServerStream& stream) {
    stream.Write(Holding(5000));
    stream.Write(Holding(6000));
    return self->ReadAll(stream);
  });
  self = &store;
  auto stream = Listen(store.address(), &ear_);
  Await([&] { return ear_.heard().size() == 2 && store.used().size() == 1; });
  EXPECT_EQ(ear_.heard()[0].address, store.address());
  EXPECT_EQ(ear_.heard()[1].sets[0].layers[0].rows.table_rows, 6000u);
  EXPECT_THAT(store.used()[0], IsEmpty());
  stream->Use({"a", "b"});
  stream->Use({"a", "b"});  // which is nothing new
  Await([&] { return store.used().size() == 2; });
  EXPECT_THAT(store.used()[1], ElementsAre("a", "b"));
  EXPECT_EQ(store.over(), 0);
  // The store sees that it goes, and nobody is told.
  stream.reset();
  while (store.over() == 0) std::this_thread::yield();
  EXPECT_THAT(ear_.lost(), IsEmpty());
}

TEST_F(HoldingsStreamTest, TriesAgainAfterDelaysThatGrow) {
  Store store([&](int call, ServerStream& stream) -> grpc::Status {
    if (call == 3) stream.Write(Holding(5000));
    return {grpc::StatusCode::UNAVAILABLE, "engramd is stopping"};
  });
  const auto stream = Listen(store.address(), &ear_);
  absl::Duration delay = HoldingsStream::kFirstDelay;
  for (size_t i = 1; i <= 3; ++i, delay *= 2) {
    Await([&] { return ear_.lost().size() == i; });
    EXPECT_EQ(ear_.lost().back().code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(ear_.lost().back().message()),
                AllOf(HasSubstr(store.address()), HasSubstr("engramd is stopping")));
    clock_.Advance(delay - absl::Milliseconds(1));
    driver_->TakeReady();
    EXPECT_EQ(store.calls(), static_cast<int>(i));
    clock_.Advance(absl::Milliseconds(1));
  }
  // Once something was heard it is the first delay again.
  Await([&] { return ear_.lost().size() == 4; });
  EXPECT_THAT(ear_.heard(), SizeIs(1));
  clock_.Advance(HoldingsStream::kFirstDelay);
  Await([&] { return store.calls() == 5; });
}

TEST_F(HoldingsStreamTest, WhatIsUsedIsSaidOnTheNextStreamToo) {
  Store* self = nullptr;
  Store store([&](int call, ServerStream& stream) {
    return call == 0 ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "") : self->ReadAll(stream);
  });
  self = &store;
  const auto stream = Listen(store.address(), &ear_);
  stream->Use({"a"});
  Await([&] { return ear_.lost().size() == 1; });
  clock_.Advance(HoldingsStream::kFirstDelay);
  Await([&] { return store.used().size() == 1; });
  EXPECT_THAT(store.used()[0], ElementsAre("a"));
}

TEST_F(HoldingsStreamTest, AStoreThatLiesIsLost) {
  Store store([&](int call, ServerStream& stream) {
    v1::HoldingsResponse message = Holding(5000);
    if (call == 0) {
      for (int i = 0; i < 2; ++i) {
        message.mutable_sets(0)->mutable_layers(0)->add_ranges()->set_rows(10);
      }
    } else {
      message.set_zone(std::string(kMaxHoldingsBytes, 'x'));
    }
    stream.Write(message);
    v1::HoldingsRequest request;
    while (stream.Read(&request)) {
    }
    return grpc::Status::OK;
  });
  const auto stream = Listen(store.address(), &ear_);
  Await([&] { return ear_.lost().size() == 1; });
  EXPECT_EQ(ear_.lost()[0].code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ear_.lost()[0].message()),
              AllOf(HasSubstr(store.address()), HasSubstr("overlaps")));
  clock_.Advance(HoldingsStream::kFirstDelay);
  Await([&] { return ear_.lost().size() == 2; });
  EXPECT_EQ(ear_.lost()[1].code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ear_.lost()[1].message()), HasSubstr("bytes"));
  EXPECT_THAT(ear_.heard(), IsEmpty());
}

TEST_F(HoldingsStreamTest, AStoreThatFallsSilentIsLost) {
  Store store([&](int, ServerStream& stream) {
    v1::HoldingsRequest request;
    while (stream.Read(&request)) stream.Write(Holding(5000));
    return grpc::Status::OK;
  });
  const auto stream = Listen(store.address(), &ear_);
  Await([&] { return ear_.heard().size() == 1; });
  clock_.Advance(absl::Seconds(3));
  stream->Use({"a"});
  Await([&] { return ear_.heard().size() == 2; });
  // Counted from what was heard last.
  clock_.Advance(HoldingsStream::kSilence - absl::Milliseconds(1));
  driver_->TakeReady();
  EXPECT_THAT(ear_.lost(), IsEmpty());
  clock_.Advance(absl::Milliseconds(1));
  Await([&] { return ear_.lost().size() == 1; });
  EXPECT_EQ(ear_.lost()[0].code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(ear_.lost()[0].message()), HasSubstr("has said nothing for 5s"));
  clock_.Advance(HoldingsStream::kFirstDelay);
  Await([&] { return ear_.heard().size() == 3; });
}

TEST_F(HoldingsStreamTest, NobodyThereIsLostAndSeveralShareADriver) {
  Store* self = nullptr;
  Store store([&](int, ServerStream& stream) {
    stream.Write(Holding(5000));
    return self->ReadAll(stream);
  });
  self = &store;
  Ear other;
  const auto nobody = Listen("127.0.0.1:1", &other);
  const auto stream = Listen(store.address(), &ear_);
  Await([&] { return ear_.heard().size() == 1 && other.lost().size() == 1; });
  EXPECT_EQ(other.lost()[0].code(), absl::StatusCode::kUnavailable) << other.lost()[0];
  EXPECT_THAT(ear_.lost(), IsEmpty());
}

// An engramd from before, say.
TEST_F(HoldingsStreamTest, AServerWithoutTheMethodIsNamed) {
  v1::Lookup::Service older;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&older);
  const auto server = builder.BuildAndStart();
  const auto stream = Listen(absl::StrCat("127.0.0.1:", port), &ear_);
  Await([&] { return ear_.lost().size() == 1; });
  EXPECT_EQ(ear_.lost()[0].code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(ear_.lost()[0].message()), HasSubstr("does not say what it holds"));
}

}  // namespace
}  // namespace engram
