// Shared memory of a real engramd: served beside gRPC, stopped, killed, started again.
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>

#include "absl/time/clock.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kV41[] = "deepseek-v4.1-flash";

MonotonicTime Soon() { return RealClock().Now() + absl::Seconds(60); }

class ShmEngramd : public ::testing::Test {
 protected:
  ShmEngramd() {
    PackSmallSet(kV41, 500, scratch_ / "v41");
    Start();
  }
  void Start() {
    engramd_ = std::make_unique<EngramdProcess>(
        std::vector<std::string>{"--table-set", scratch_ / "v41", "--listen",
                                 "unix:" + (scratch_ / "grpc"), "--shm-socket", scratch_ / "shm"});
    ASSERT_TRUE(engramd_->WaitForLine("shared memory at"));
  }
  std::unique_ptr<Client> Attach(const std::string& mode) {
    auto client = Client::Attach("shm:" + (scratch_ / "shm"), {.table_set = {}, .mode = mode});
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }
  void ExpectExact(Client& client) {
    const auto rows = LookUp(client, ids_, Soon());
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_TRUE(*rows == ExpectedRows(client.table_set(), client.addresser(), ids_));
  }

  const ScratchDirectory scratch_;
  const std::vector<int32_t> ids_ = RealTokenIds(300);
  std::unique_ptr<EngramdProcess> engramd_;
};

TEST_F(ShmEngramd, ServesBothWaysAndStops) {
  const auto mapped = Attach("");
  const auto ring = Attach("ring");
  ASSERT_NE(mapped, nullptr);
  ASSERT_NE(ring, nullptr);
  EXPECT_EQ(mapped->transport().capabilities().name, "shm");
  EXPECT_EQ(ring->transport().capabilities().name, "shm-ring");
  ExpectExact(*mapped);
  ExpectExact(*ring);
  struct stat socket;
  ASSERT_EQ(stat((scratch_ / "shm").c_str(), &socket), 0);
  EXPECT_EQ(socket.st_mode & 0777, 0660u);
  engramd_->Signal(SIGTERM);
  EXPECT_EQ(engramd_->WaitForEnd(), 0);
  EXPECT_EQ(LookUp(*mapped, ids_, Soon()).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(LookUp(*ring, ids_, Soon()).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "shm"));
}

TEST_F(ShmEngramd, AfterAKillMappedRowsStayAndASuccessorTakesTheSocket) {
  const auto mapped = Attach("");
  const auto ring = Attach("ring");
  ExpectExact(*mapped);
  engramd_->Signal(SIGKILL);
  engramd_->WaitForEnd();
  ExpectExact(*mapped);
  // A caller that only polls learns it, too.
  const std::vector<RowId> rows = {1, 2, 3};
  std::vector<std::byte> landing(rows.size() * 264);
  const LayerRequest layer = {.layer = 1, .row_ids = rows, .landing = {.data = landing.data()}};
  const auto ticket = ring->Submit({.layers = {&layer, 1}});
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  const MonotonicTime begin = RealClock().Now();
  while (ring->Poll(*ticket) == TicketState::kInFlight) {
    ASSERT_LT(RealClock().Now(), begin + absl::Seconds(30));
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(ring->Wait(*ticket).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(LookUp(*ring, ids_, Soon()).status().code(), absl::StatusCode::kUnavailable);
  Start();
  ExpectExact(*Attach(""));
  ExpectExact(*Attach("ring"));
}

TEST_F(ShmEngramd, SharedMemoryAloneIsServed) {
  engramd_ = std::make_unique<EngramdProcess>(std::vector<std::string>{
      "--table-set", scratch_ / "v41", "--shm-socket", scratch_ / "alone"});
  ASSERT_TRUE(engramd_->WaitForLine("serving by shared memory alone, at " + (scratch_ / "alone")));
  for (const char* const mode : {"", "ring"}) {
    auto client = Client::Attach("shm:" + (scratch_ / "alone"), {.table_set = {}, .mode = mode});
    ASSERT_TRUE(client.ok()) << client.status();
    ExpectExact(**client);
  }
  engramd_->Signal(SIGTERM);
  EXPECT_EQ(engramd_->WaitForEnd(), 0);
  EXPECT_THAT(engramd_->Log(), Not(HasSubstr("listening on")));
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "alone"));
}

TEST_F(ShmEngramd, AGrpcSocketIsNoSharedMemoryAndTheOtherWayRound) {
  const auto wrong = Client::Attach("shm:" + (scratch_ / "grpc"), {});
  EXPECT_EQ(wrong.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(wrong.status().message()), HasSubstr("--shm-socket"));
  const auto mode =
      Client::Attach("grpc:unix:" + (scratch_ / "grpc"), {.table_set = {}, .mode = "ring"});
  EXPECT_EQ(mode.status().code(), absl::StatusCode::kInvalidArgument);
  EngramdProcess second({"--table-set", scratch_ / "v41", "--listen",
                         "unix:" + (scratch_ / "other"), "--shm-socket", scratch_ / "shm"});
  EXPECT_EQ(second.WaitForEnd(), 1);
  EXPECT_THAT(second.Log(), HasSubstr("in use"));
  EXPECT_THAT(second.Log(), HasSubstr("--shm-socket"));
  EXPECT_THAT(second.Log(), Not(HasSubstr("loading"))) << "found out too late";
  ExpectExact(*Attach(""));
}

}  // namespace
}  // namespace engram::integration
