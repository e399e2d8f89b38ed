// Streams and unary calls through gRPC and a loop: over a row source whose rows come later, and
// what they hold, wait for and are charged for.
#include "memstore/store/testing/deferred_rows.h"

#include <grpcpp/grpcpp.h>
#include <malloc.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "server/grpc/lookup_service.h"

namespace engram {
namespace {

constexpr uint32_t kSlabsHere = 4;
// Of rows in one message of a stream.
constexpr int kMessageRows = static_cast<int>(kStreamMessageBytes / 264);

// Goes on by a step each time that it is read. Nobody waits on it.
class SteppingClock final : public Clock {
 public:
  explicit SteppingClock(absl::Duration step) : step_ns_(absl::ToInt64Nanoseconds(step)) {}
  MonotonicTime Now() const override {
    return MonotonicTime::FromNanoseconds(now_ns_.fetch_add(step_ns_));
  }
  bool WaitUntil(CondVar& changed, Mutex& mutex, MonotonicTime) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    changed.Wait(mutex);
    return true;
  }

 private:
  const int64_t step_ns_;
  mutable std::atomic<int64_t> now_ns_{1'000'000'000};
};

class DeferredRowsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = new std::string(absl::StrCat(::testing::TempDir(), "/deferred_rows_set"));
    other_directory_ = new std::string(absl::StrCat(::testing::TempDir(), "/deferred_rows_other"));
    ASSERT_TRUE(testing::WriteSmallTableSet({}, *directory_).ok());
    testing::SmallTableSet other;
    other.name = "other";
    ASSERT_TRUE(testing::WriteSmallTableSet(other, *other_directory_).ok());
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
    access_ = AccessControl::Create({}, context_.log, &RealClock()).value();
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
    loop_ = std::make_unique<EventLoop>(
        &context_, 0, [this](EventLoop& loop) { service_->Accept(loop); }, builder);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    ASSERT_TRUE(loop_->Start().ok());
    stub_ = v1::Lookup::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  }
  void TearDown() override { Stop(); }
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
  testing::Deferred deferred_;
  FakeClock clock_;
  std::unique_ptr<SteppingClock> stepping_clock_;
  TableSetRegistry registry_;
  std::string later_id_, resident_id_;
  std::unique_ptr<AccessControl> access_;
  std::unique_ptr<GatherTeam> team_;
  Metrics metrics_;
  ServingContext context_;
  std::unique_ptr<RdmaEndpoint> rdma_;
  std::unique_ptr<LookupService> service_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Lookup::Stub> stub_;
};

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

// Else what a small batch takes would stand for its few bytes of rows, and all that waits be
// thought to take as long by the byte.
TEST_F(DeferredRowsTest, TheEstimateCountsAMessageAsTheTurnThatItWasLearnedFrom) {
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
TEST_F(DeferredRowsTest, AStreamsRequestsAreLetGoWhenTheyWereRead) {
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
  // gRPC may be about to let go of what was sent.
  const size_t most = before + (size_t{4} << 20);
  for (int i = 0; i < 500 && held() > most; ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_LE(held(), most);
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

// A loop that is behind holds calls up with slabs free: that takes as long as it takes.
TEST_F(DeferredRowsTest, AUnaryCallMayWaitForItsTurnForLongerThanForSlabs) {
  StartAgainBySteps(absl::Milliseconds(600));
  constexpr uint64_t kCalls = 3;
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
  for (uint64_t i = 0; i < kCalls; ++i) deferred_.Complete();
  for (uint64_t i = 0; i < kCalls; ++i) {
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
  }
  for (const grpc::Status& status : statuses) EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(DeferredRowsTest, AUnaryCallThatFindsNoSlabsForASecondIsToldSo) {
  std::vector<ReplySlabs::Slab> all;
  ASSERT_TRUE(context_.slabs->Take(
      kSlabsHere, [] {}, &all));
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
