// A cluster whose stores are reached over RDMA: rows are exact, a store that is killed or stopped
// while its writes are under way loses no lookup, and writes nothing to memory that was asked for
// elsewhere or given back.
#include <algorithm>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "tests/integration/programs.h"
#include "tests/rdma/rdma_owner.h"

namespace engram::rdma {
namespace {

using integration::EngramdProcess;

constexpr uint32_t kPartitions = 2, kReplicas = 2;
constexpr uint64_t kColumnRows = kRows / kColumns;

// Rows [tokens, layers, columns], with a canary around and a gap after each token.
class ColumnBatch {
 public:
  ColumnBatch(size_t tokens, uint64_t seed) : buffer_(2 * kCanary + tokens * kTokenBytes, kBlank) {
    for (size_t t = 0; t < tokens; ++t) {
      for (uint32_t c = 0; c < kColumns; ++c) {
        ids_.push_back(c * kColumnRows +
                       SplitMix64Mix(seed * 1'000'003 + t * kColumns + c) % kColumnRows);
      }
    }
    std::byte* at = buffer_.data() + kCanary;
    for (size_t l = 0; l < 2; ++l) {
      layers_.push_back({.layer = kLayers[l],
                         .row_ids = ids_,
                         .landing = {at, kColumns, kTokenBytes},
                         .slice = &all_});
      at += kColumns * kRowBytes[l];
    }
  }
  absl::Span<std::byte> buffer() { return absl::MakeSpan(buffer_); }
  const std::vector<LayerRequest>& layers() const { return layers_; }
  void Clear() { std::fill(buffer_.begin(), buffer_.end(), kBlank); }
  bool IsUntouched() const {
    return std::all_of(buffer_.begin(), buffer_.end(), [](std::byte b) { return b == kBlank; });
  }
  bool IsExact() const {
    std::vector<std::byte> expected(buffer_.size(), kBlank);
    for (size_t l = 0; l < 2; ++l) {
      const std::byte* const first = layers_[l].landing.data;
      for (size_t i = 0; i < ids_.size(); ++i) {
        std::byte* const row = expected.data() + (first - buffer_.data()) +
                               i / kColumns * kTokenBytes + i % kColumns * kRowBytes[l];
        SyntheticRow(kLayers[l], ids_[i], {row, kRowBytes[l]});
      }
    }
    return expected == buffer_;
  }

 private:
  static constexpr std::byte kBlank{0xA5};
  static constexpr size_t kCanary = 4096;
  static constexpr size_t kTokenBytes = kColumns * (kRowBytes[0] + kRowBytes[1]) + 40;
  const ColumnSlice all_ = ColumnSlice::All(kColumns);
  std::vector<RowId> ids_;
  std::vector<std::byte> buffer_;
  std::vector<LayerRequest> layers_;
};

class RdmaClusterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    before_ = Resources::Now();
    stores_.resize(kPartitions * kReplicas);
    for (uint32_t store = 0; store < stores_.size(); ++store) {
      stores_[store] = std::make_unique<EngramdProcess>(std::vector<std::string>{
          "--table-set", set_.path(), "--partition",
          absl::StrCat(store % kPartitions, "/", kPartitions), "--listen", "127.0.0.1:0",
          "--rdma-device", Device(), "--rdma-read", "--load-threads", "1"});
    }
    std::vector<std::string> addresses;
    for (const auto& store : stores_) addresses.push_back(store->WaitUntilServing());
    target_ = absl::StrCat("cluster:", absl::StrJoin(addresses, ","));
  }
  void TearDown() override {
    client_.reset();
    stores_.clear();
    EXPECT_TRUE(before_.ComesBack());
  }
  void Attach(const std::string& mode, size_t batches, size_t tokens) {
    auto client = Client::Attach(target_, {.timeout = absl::Seconds(60), .mode = mode});
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
    for (size_t i = 0; i < batches; ++i) {
      batches_.push_back(std::make_unique<ColumnBatch>(tokens, i));
      ASSERT_TRUE(client_->transport().Register(batches_.back()->buffer()).ok());
    }
  }
  void SubmitAll() { Submit(batches_.size()); }
  void Submit(size_t batches) {
    tickets_.clear();
    for (size_t i = 0; i < batches; ++i) {
      const auto ticket = client_->Submit(BatchRequest{
          .layers = batches_[i]->layers(), .deadline = RealClock().After(absl::Seconds(60))});
      ASSERT_TRUE(ticket.ok()) << ticket.status();
      tickets_.push_back(*ticket);
    }
  }
  // Every batch is OK and exact; then its memory is the test's again, and blank.
  void WaitAll() {
    for (size_t i = 0; i < tickets_.size(); ++i) {
      const absl::Status status = client_->Wait(tickets_[i]);
      EXPECT_TRUE(status.ok()) << i << ": " << status;
      EXPECT_TRUE(batches_[i]->IsExact()) << i;
      client_->Reap(tickets_[i]);
      batches_[i]->Clear();
    }
  }
  void ExpectUntouched() {
    for (size_t i = 0; i < batches_.size(); ++i) EXPECT_TRUE(batches_[i]->IsUntouched()) << i;
  }
  // Looks up until every store was asked, and no more: ways are opened without it, and a machine
  // that is kept busy may make a store silent, whose way is then closed again.
  void LookUpUntil(const std::string& described) {
    const MonotonicTime give_up = RealClock().After(absl::Seconds(120));
    while (client_->transport().Describe().find(described) == std::string::npos) {
      const std::string now = client_->transport().Describe();
      ASSERT_LT(RealClock().Now(), give_up) << now;
      if (now.find("not asked yet") != std::string::npos) {
        ASSERT_NO_FATAL_FAILURE(Submit(1));
        WaitAll();
      }
      absl::SleepFor(absl::Milliseconds(50));
    }
  }

  Resources before_;
  const SetDirectory set_;
  std::string target_;
  std::vector<std::unique_ptr<EngramdProcess>> stores_;
  std::vector<std::unique_ptr<ColumnBatch>> batches_;
  std::vector<Ticket> tickets_;
  std::unique_ptr<Client> client_;  // before the memory that it writes to
};

TEST_F(RdmaClusterTest, StoresThatAreStoppedAndKilledWriteNothingLate) {
  for (const std::string mode : {"write", "read"}) {
    SCOPED_TRACE(mode);
    ASSERT_NO_FATAL_FAILURE(Attach(mode, 4, 300));
    ASSERT_NO_FATAL_FAILURE(LookUpUntil(mode == "read" ? "4 over rdma-read" : "4 over rdma"));
    // Stopped while it writes: its parts come from elsewhere, and when it goes on it reaches
    // nothing, for its queue pair is gone.
    for (int round = 0; round < 2; ++round) {
      ASSERT_NO_FATAL_FAILURE(SubmitAll());
      stores_[0]->Signal(SIGSTOP);
      WaitAll();
      ASSERT_NO_FATAL_FAILURE(SubmitAll());
      WaitAll();
      stores_[0]->Signal(SIGCONT);
      absl::SleepFor(absl::Milliseconds(500));
      ExpectUntouched();
    }
    // It is taken again once it is back.
    ASSERT_NO_FATAL_FAILURE(LookUpUntil(mode == "read" ? "4 over rdma-read" : "4 over rdma"));
    // Given back while a stopped store may write.
    ASSERT_NO_FATAL_FAILURE(SubmitAll());
    stores_[0]->Signal(SIGSTOP);
    for (const Ticket ticket : tickets_) client_->Reap(ticket);
    for (const auto& batch : batches_) batch->Clear();
    stores_[0]->Signal(SIGCONT);
    absl::SleepFor(absl::Milliseconds(500));
    ExpectUntouched();
    // What this side reads comes from a stopped store, too: its device answers.
    if (mode == "write") {
      EXPECT_GT(client_->metrics().routing->drains, 0u);
    }
    std::fprintf(stderr, "%s: %s\n", mode.c_str(), client_->transport().Describe().c_str());
    client_.reset();
    batches_.clear();
  }
}

TEST_F(RdmaClusterTest, AKilledStoreLosesNoLookup) {
  ASSERT_NO_FATAL_FAILURE(Attach("write", 4, 300));
  ASSERT_NO_FATAL_FAILURE(LookUpUntil("4 over rdma"));
  ASSERT_NO_FATAL_FAILURE(SubmitAll());
  stores_[1]->Signal(SIGKILL);
  WaitAll();
  for (int i = 0; i < 10; ++i) {
    ASSERT_NO_FATAL_FAILURE(SubmitAll());
    WaitAll();
  }
  ExpectUntouched();
  EXPECT_EQ(client_->metrics().routing->failed, 0u);
  // What is not registered comes over gRPC.
  ColumnBatch other(64, 99);
  const auto ticket = client_->Submit(BatchRequest{.layers = other.layers()});
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  EXPECT_TRUE(client_->Wait(*ticket).ok());
  EXPECT_TRUE(other.IsExact());
  client_->Reap(*ticket);
}

}  // namespace
}  // namespace engram::rdma
