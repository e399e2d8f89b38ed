// Lookups that are turned away before they are looked at: each is counted once, by its reason and
// by its code, as the clients saw it.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/hand_stream.h"
#include "tests/integration/http_get.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint32_t kExhausted = static_cast<uint32_t>(grpc::StatusCode::RESOURCE_EXHAUSTED);

// Unary calls made all at once; what each ended with.
class UnaryCalls {
 public:
  void Start(const std::string& address, const v1::LookupRequest& request, int count,
             int on_a_connection = 100,  // which takes 128 at once
             std::chrono::milliseconds time = std::chrono::seconds(60)) {
    for (int i = 0; i < count; ++i) {
      if (i % on_a_connection == 0) stubs_.push_back(ConnectStub(address));
      Call& call = *calls_.emplace_back(std::make_unique<Call>());
      call.context.set_deadline(std::chrono::system_clock::now() + time);
      call.reader = stubs_.back()->AsyncLookup(&call.context, request, &queue_);
      call.reader->Finish(&call.response, &call.status, &call);
    }
  }
  // How many ended with this code and a message that holds `words`.
  int End(grpc::StatusCode code, const std::string& words) {
    int matching = 0;
    for (size_t i = 0; i < calls_.size(); ++i) {
      void* tag = nullptr;
      bool ok = false;
      queue_.Next(&tag, &ok);
      const grpc::Status& status = static_cast<Call*>(tag)->status;
      matching +=
          status.error_code() == code && absl::StrContains(status.error_message(), words) ? 1 : 0;
    }
    return matching;
  }

 private:
  struct Call {
    grpc::ClientContext context;
    v1::LookupResponse response;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<v1::LookupResponse>> reader;
  };
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<v1::Lookup::Stub>> stubs_;
  std::vector<std::unique_ptr<Call>> calls_;
};

class RejectionsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    PackSmallSet("deepseek-v4.1-flash", 500, scratch_ / "set");
    Start();
  }
  void Start() {
    engramd_ = std::make_unique<EngramdProcess>(std::vector<std::string>{
        "--table-set", scratch_ / "set", "--listen", "unix:" + (scratch_ / "s"), "--admin-listen",
        "127.0.0.1:0", "--drain-grace-s", "5"});
    const auto line = engramd_->WaitForLine("metrics and status at http://");
    ASSERT_TRUE(line) << engramd_->Log();
    http_ = line->substr(line->find("http://") + 7);
    address_ = engramd_->WaitUntilServing();
    set_ = DescribeFirst(*ConnectStub(address_));
  }
  double Value(const std::string& name) const {
    return MetricValue(HttpGet(http_, "/metrics"), "engram_server_" + name);
  }
  double Rejections(const std::string& reason) const {
    return Value(absl::StrCat("rejections_total{reason=\"", reason, "\"}"));
  }

  ScratchDirectory scratch_;
  std::unique_ptr<EngramdProcess> engramd_;
  std::string http_, address_;
  v1::ServedTableSet set_;
};

TEST_F(RejectionsTest, ThatWouldBeLate) {
  HandStream stream(address_);
  ASSERT_TRUE(stream.Write(RowBatch(set_, 1, 500'000)));
  constexpr uint64_t kLast = 20;
  for (uint64_t id = 2; id <= kLast; ++id) {
    v1::LookupRequest hurried = RowBatch(set_, id, 5000);
    hurried.set_timeout_us(10'000);
    ASSERT_TRUE(stream.Write(hurried));
  }
  int late = 0;
  int expired = 0;
  for (uint64_t i = 1; i <= kLast; ++i) {
    const Answer answer = stream.Take(stream.ReadToAnEnd().value());
    late += answer.code == kExhausted ? 1 : 0;
    expired += answer.code == static_cast<uint32_t>(grpc::StatusCode::DEADLINE_EXCEEDED) ? 1 : 0;
  }
  EXPECT_GT(late, 0);
  EXPECT_EQ(Rejections("late"), late);
  EXPECT_EQ(Value("requests_total{transport=\"grpc_stream\",code=\"RESOURCE_EXHAUSTED\"}"), late);
  // A code that nothing ended with has no series.
  EXPECT_EQ(
      std::max(0.0, Value("requests_total{transport=\"grpc_stream\",code=\"DEADLINE_EXCEEDED\"}")),
      expired);
  EXPECT_EQ(Value("requests_total{transport=\"grpc_stream\",code=\"OK\"}"),
            static_cast<int>(kLast) - late - expired);
}

// They are read before rows are gathered for the first of them, so that the estimate sees them.
TEST_F(RejectionsTest, UnaryCallsThatWouldBeLate) {
  v1::LookupRequest request;
  request.set_table_set_id(set_.id());
  for (int32_t i = 0; i < 64; ++i) request.mutable_tokens()->add_token_ids(1000 + i);
  // 300 MB, far more than are sent in this time; of each call less than its share of what there is.
  constexpr int kCalls = 400;
  UnaryCalls calls;
  calls.Start(address_, request, kCalls, /*on_a_connection=*/50, std::chrono::milliseconds(60));
  const int late = calls.End(grpc::StatusCode::RESOURCE_EXHAUSTED, "engramd is behind");
  EXPECT_GT(late, 0);
  EXPECT_GE(Rejections("late"), late);
}

TEST_F(RejectionsTest, BeyondTheUnaryCallsThatItTakes) {
  UnaryCalls calls;
  engramd_->Signal(SIGSTOP);  // they come all at once
  calls.Start(address_, RowBatch(set_, 1, 14'000), 900);
  absl::SleepFor(absl::Milliseconds(500));
  engramd_->Signal(SIGCONT);
  const int full = calls.End(grpc::StatusCode::RESOURCE_EXHAUSTED, "lookups under way");
  EXPECT_EQ(Rejections("queue_full"), full);
  EXPECT_GT(full, 0);
}

TEST_F(RejectionsTest, ThatFindNoRoomForTheirIds) {
#ifdef ABSL_HAVE_ADDRESS_SANITIZER
  GTEST_SKIP() << "with AddressSanitizer its megabytes of ids take longer than streams may stall";
#endif
  std::vector<std::unique_ptr<HandStream>> stalled;
  for (int i = 0; i < 12; ++i) {
    stalled.push_back(std::make_unique<HandStream>(address_));
    for (uint64_t id = 1; id <= 3; ++id) {
      ASSERT_TRUE(stalled.back()->Write(RowBatch(set_, id, 1'000'000)));
    }
  }
  HandStream stream(address_);
  const double before = Rejections("bytes_full");
  int full = 0;
  for (uint64_t id = 1; id <= 4; ++id) {
    ASSERT_TRUE(stream.Write(RowBatch(set_, id, 1'000'000)));
    full += stream.Take(stream.ReadToAnEnd().value()).code == kExhausted ? 1 : 0;
  }
  EXPECT_GT(full, 0);
  // Those of the stalled streams that are read meanwhile may be turned away too.
  EXPECT_GE(Rejections("bytes_full"), before + full);
  for (const auto& one : stalled) one->Abort();
}

TEST_F(RejectionsTest, ThatComeWhileItDrains) {
  // A stream whose client takes nothing keeps the drain going.
  HandStream stalled(address_);
  ASSERT_TRUE(stalled.Write(RowBatch(set_, 1, 1'000'000)));
  ASSERT_TRUE(stalled.Read());
  UnaryCalls calls;
  const v1::LookupRequest request = RowBatch(set_, 1, 480);
  calls.Start(address_, request, 1);
  engramd_->Signal(SIGSTOP);
  calls.Start(address_, request, 200);
  absl::SleepFor(absl::Milliseconds(300));
  engramd_->Signal(SIGTERM);
  engramd_->Signal(SIGCONT);
  const int refused = calls.End(grpc::StatusCode::UNAVAILABLE, "engramd is stopping");
  EXPECT_EQ(Rejections("draining"), refused);
  stalled.Abort();
  EXPECT_EQ(engramd_->WaitForEnd(), 0);
}

// Before it serves: not ready, and how far the load is.
TEST_F(RejectionsTest, AReadinessProbeWhileItLoads) {
  engramd_->Signal(SIGTERM);
  EXPECT_EQ(engramd_->WaitForEnd(), 0);
  PackSmallSet("deepseek-v4.1-flash", 20000, scratch_ / "large");
  std::string page;
  std::string metrics;
  for (int i = 0; i < 10 && !absl::StrContains(page, "LOADING"); ++i) {
    EngramdProcess engramd({"--table-set", scratch_ / "large", "--listen", "127.0.0.1:0",
                            "--load-threads", "1", "--admin-listen", "127.0.0.1:0"});
    const auto line = engramd.WaitForLine("metrics and status at http://");
    ASSERT_TRUE(line) << engramd.Log();
    http_ = line->substr(line->find("http://") + 7);
    page = HttpGet(http_, "/readyz");
    metrics = HttpGet(http_, "/metrics");
    EXPECT_THAT(HttpGet(http_, "/healthz"), HasSubstr("200 OK"));
  }
  EXPECT_THAT(page, AllOf(HasSubstr("503"), HasSubstr("LOADING")));
  const double total = MetricValue(metrics, "engram_server_load_bytes{what=\"total\"}");
  const double done = MetricValue(metrics, "engram_server_load_bytes{what=\"done\"}");
  EXPECT_GE(total, 0);
  EXPECT_LE(done, total);
}

}  // namespace
}  // namespace engram::integration
