// For tests of what runs on a loop: one loop behind gRPC, of the test's own clock, that serves two
// small table sets, one whose rows come when the test says so, and one in memory.
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "memstore/store/testing/deferred_rows.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "server/base/life_cycle.h"
#include "server/cluster/store_status.h"
#include "server/grpc/health.h"
#include "server/grpc/lookup_service.h"
#include "server/grpc/unknown_call.h"
#include "server/security/access.h"
#include "server/security/token_file.h"
#include "server/table_sets/generations.h"

namespace engram::testing {

inline constexpr uint32_t kSlabsHere = 4;
// Of rows in one message of a stream.
inline constexpr int kMessageRows = static_cast<int>(kStreamMessageBytes / 264);

// Goes on by a step each time that it is read. Nobody waits on it.
class SteppingClock final : public Clock {
 public:
  explicit SteppingClock(absl::Duration step) { SetStep(step); }
  void SetStep(absl::Duration step) { step_ns_ = absl::ToInt64Nanoseconds(step); }
  MonotonicTime Now() const override {
    return MonotonicTime::FromNanoseconds(now_ns_.fetch_add(step_ns_));
  }
  bool WaitUntil(CondVar& changed, Mutex& mutex, MonotonicTime) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    changed.Wait(mutex);
    return true;
  }

 private:
  std::atomic<int64_t> step_ns_{0};
  mutable std::atomic<int64_t> now_ns_{1'000'000'000};
};

class LoopFixture : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = new std::string(absl::StrCat(::testing::TempDir(), "/deferred_rows_set"));
    other_directory_ = new std::string(absl::StrCat(::testing::TempDir(), "/deferred_rows_other"));
    ASSERT_TRUE(WriteSmallTableSet({}, *directory_).ok());
    SmallTableSet other;
    other.name = "other";
    ASSERT_TRUE(WriteSmallTableSet(other, *other_directory_).ok());
  }
  static void TearDownTestSuite() {
    delete directory_;
    delete other_directory_;
  }

  void SetUp() override {
    LoadOptions options;
    options.make_row_source = [this](std::vector<GatherTable> tables) {
      return deferred_.MakeSource(std::move(tables));
    };
    auto later = TableSet::Load(*directory_, options);
    ASSERT_TRUE(later.ok()) << later.status();
    later_id_ = (*later)->id();
    auto resident = TableSet::Load(*other_directory_, {});
    ASSERT_TRUE(resident.ok()) << resident.status();
    resident_id_ = (*resident)->id();
    ASSERT_TRUE(registry_.Publish(*std::move(later)).ok());
    ASSERT_TRUE(registry_.Publish(*std::move(resident)).ok());
    team_ = GatherTeam::Create(1, "test").value();
    context_.clock = &clock_;
    context_.registry = &registry_;
    context_.metrics = &metrics_;
    context_.log =
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::null_sink_mt>());
    refusals_ = std::make_unique<AttachRefusals>(context_.log, &clock_);
    context_.attach_refusals = refusals_.get();
    access_ = std::make_unique<AccessControl>(AccessControl::Options{});
    context_.store_status = &store_status_;
    context_.access = access_.get();
    context_.team = team_.get();
    context_.max_batch_rows = 1 << 20;
    context_.slabs = ReplySlabs::Create(kSlabsHere, kSlabBytes).value();
    // Without a device it offers no port, to who may attach.
    rdma_ = RdmaEndpoint::Start({.devices = {}, .clock = &clock_}, &registry_, team_.get()).value();
    Start();
  }
  void Start() {
    service_ = std::make_unique<LookupService>(&registry_, access_.get(), context_.max_batch_rows,
                                               rdma_.get(), /*shm_socket=*/"");
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    health_ = std::make_unique<Health>();
    health_->SetServing(true);
    builder.RegisterService(&health_->service());
    unknown_methods_ = std::make_unique<grpc::AsyncGenericService>();
    builder.RegisterAsyncGenericService(unknown_methods_.get());
    loop_ = std::make_unique<EventLoop>(
        &context_, 0,
        [this](EventLoop& loop) {
          service_->Accept(loop);
          health_->Accept(loop);
          UnknownCall::Accept(loop, unknown_methods_.get());
        },
        builder);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    ASSERT_TRUE(loop_->Start().ok());
    address_ = absl::StrCat("127.0.0.1:", port);
    stub_ = v1::Lookup::NewStub(Connect());
  }
  // A connection of its own.
  std::shared_ptr<grpc::Channel> Connect() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
  }
  void TearDown() override { Stop(); }
  // As one that takes a token's owner alone.
  void StartAgainForToken(const std::string& token) {
    Stop();
    WriteToken(token);
    tokens_ = TokenFile::Open(TokenPath(), context_.log, &RealClock()).value();
    access_ = std::make_unique<AccessControl>(AccessControl::Options{.tokens = tokens_.get()});
    context_.access = access_.get();
    Start();
  }
  static std::string TokenPath() {
    return absl::StrCat(::testing::TempDir(), "/loop_fixture_tokens");
  }
  static void WriteToken(const std::string& token) {
    std::ofstream(TokenPath()) << "worker " << token << "\n";
  }
  // By a clock of which each reading is `step` after the one before.
  void StartAgainBySteps(absl::Duration step) {
    Stop();
    stepping_clock_ = std::make_unique<SteppingClock>(step);
    context_.clock = stepping_clock_.get();
    Start();
  }
  void Stop() {
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::time_point());
    loop_->Stop();
    loop_.reset();
    server_.reset();
  }

  v1::LookupRequest Request(const std::string& set, uint64_t batch_id, int rows) {
    v1::LookupRequest request;
    request.set_table_set_id(set);
    request.set_batch_id(batch_id);
    v1::LayerRowIds* layer = request.add_layers();
    layer->set_layer(1);
    for (int i = 0; i < rows; ++i) layer->add_row_ids32((i * 37 + batch_id) % 5000);
    return request;
  }
  static void ExpectRows(const v1::LookupRequest& request, const v1::LayerRowData& run) {
    ASSERT_EQ(run.rows().size() % 264, 0u);
    for (size_t i = 0; i < run.rows().size() / 264; ++i) {
      const auto* row = reinterpret_cast<const std::byte*>(run.rows().data()) + i * 264;
      const uint32_t id = request.layers(0).row_ids32(static_cast<int>(run.first_row() + i));
      ASSERT_TRUE(IsSyntheticRow(1, id, {row, 264})) << "row " << run.first_row() + i;
    }
  }

  using Stream = std::unique_ptr<grpc::ClientReaderWriter<v1::LookupRequest, v1::LookupResponse>>;
  // The next message, which is to be of this batch.
  static v1::LookupResponse Read(const Stream& stream, uint64_t batch_id) {
    v1::LookupResponse response;
    EXPECT_TRUE(stream->Read(&response));
    EXPECT_EQ(response.batch_id(), batch_id) << response.message();
    return response;
  }

  static inline std::string* directory_ = nullptr;
  static inline std::string* other_directory_ = nullptr;
  Deferred deferred_;
  FakeClock clock_;
  std::unique_ptr<SteppingClock> stepping_clock_;
  TableSetRegistry registry_;
  std::string later_id_, resident_id_;
  std::unique_ptr<TokenFile> tokens_;
  std::unique_ptr<AccessControl> access_;
  std::unique_ptr<GatherTeam> team_;
  Metrics metrics_;
  std::unique_ptr<AttachRefusals> refusals_;
  Generations generations_{{}};
  LifeCycle life_;
  std::atomic<double> load_{0.25};
  StoreStatus store_status_{
      {.zone = "rack-7", .transports = {"grpc"}, .load = [this] { return load_.load(); }},
      &registry_,
      &generations_,
      &life_};
  ServingContext context_;
  std::unique_ptr<RdmaEndpoint> rdma_;
  std::unique_ptr<LookupService> service_;
  std::unique_ptr<Health> health_;
  std::unique_ptr<grpc::AsyncGenericService> unknown_methods_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::unique_ptr<v1::Lookup::Stub> stub_;
};

}  // namespace engram::testing
