#include "client/client.h"

#include <malloc.h>

#include <atomic>
#include <filesystem>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/transport/local/embedded_transport.h"
#include "gtest/gtest.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

constexpr uint32_t kRowBytes = 264;

// Gathers a batch when as many threads are in Submit as the test says, and not before.
class MeetingTransport final : public Transport {
 public:
  explicit MeetingTransport(std::unique_ptr<Transport> inner) : inner_(std::move(inner)) {}

  void Expect(int threads) { missing_.store(threads); }

  const Capabilities& capabilities() const override { return inner_->capabilities(); }
  const AttachedTableSet& table_set() const override { return inner_->table_set(); }
  absl::Status Register(absl::Span<std::byte> buffer) override { return inner_->Register(buffer); }
  absl::Status Unregister(absl::Span<std::byte> buffer) override {
    return inner_->Unregister(buffer);
  }
  absl::StatusOr<Ticket> Submit(const BatchRequest& batch) override {
    --missing_;
    while (missing_.load() > 0) std::this_thread::yield();
    return inner_->Submit(batch);
  }
  TicketState Poll(Ticket ticket) override { return inner_->Poll(ticket); }
  absl::Status Wait(Ticket ticket) override { return inner_->Wait(ticket); }
  absl::Status WaitLayer(Ticket ticket, size_t index) override {
    return inner_->WaitLayer(ticket, index);
  }
  void Cancel(Ticket ticket) override { inner_->Cancel(ticket); }
  void Reap(Ticket ticket) override { inner_->Reap(ticket); }

 private:
  const std::unique_ptr<Transport> inner_;
  std::atomic<int> missing_{0};
};

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() : directory_(absl::StrCat(::testing::TempDir(), "/client_test")) {
    EXPECT_TRUE(testing::WriteSmallTableSet({}, directory_).ok());
    auto transport =
        std::make_unique<MeetingTransport>(EmbeddedTransport::Attach(directory_, "").value());
    transport_ = transport.get();
    client_ = Client::Create(std::move(transport)).value();
  }
  ~ClientTest() override { std::filesystem::remove_all(directory_); }

  // Whether the rows of these tokens are what SubmitTokens brings.
  bool BringsTheRowsOf(const std::vector<int32_t>& token_ids) {
    Client::Plan plan;
    if (!client_->PlanTokens(Addresser::Start(), token_ids, {}, &plan).ok()) return false;
    std::vector<std::byte> rows(plan.row_ids[0].size() * kRowBytes);
    const Landing landing = {.data = rows.data()};
    const SequenceTokens sequence = {Addresser::Start(), static_cast<uint32_t>(token_ids.size())};
    const auto ticket = client_->SubmitTokens({&sequence, 1}, token_ids, {}, {&landing, 1},
                                              MonotonicTime::Infinite());
    if (!ticket.ok() || !client_->Wait(*ticket).ok()) return false;
    client_->Reap(*ticket);
    for (size_t i = 0; i < plan.row_ids[0].size(); ++i) {
      const std::byte* const row = &rows[i * kRowBytes];
      if (!IsSyntheticRow(1, plan.row_ids[0][i], {row, kRowBytes})) return false;
    }
    return true;
  }

  const std::string directory_;
  MeetingTransport* transport_ = nullptr;  // the client's
  std::unique_ptr<Client> client_;
};

// Where a transport gathers in Submit, one thread's gather would hold up all others.
TEST_F(ClientTest, ThreadsThatSubmitTokensDoNotWaitForOneAnother) {
  for (int round = 0; round < 3; ++round) {
    constexpr int kThreads = 3;
    transport_->Expect(kThreads);
    std::atomic<int> exact{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] { exact += BringsTheRowsOf({t, 7, 10 * t + round, 3, t + 1}); });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(exact, kThreads);
  }
}

TEST_F(ClientTest, TokensThatWereRefusedLeaveNothingForTheNextOnes) {
  const SequenceTokens sequence = {Addresser::Start(), 1};
  std::vector<std::byte> rows(2 * kRowBytes);
  const Landing landing = {.data = rows.data()};
  const int32_t beyond = 100;  // of the vocabulary
  EXPECT_EQ(
      client_
          ->SubmitTokens({&sequence, 1}, {&beyond, 1}, {}, {&landing, 1}, MonotonicTime::Infinite())
          .status()
          .code(),
      absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(BringsTheRowsOf({5, 6}));
}

TEST_F(ClientTest, WhateverIsRefusedIsCounted) {
  const auto refused = [&] {
    uint64_t all = 0;
    for (const uint64_t by_code : client_->metrics().refused) all += by_code;
    return all;
  };
  const MonotonicTime never = MonotonicTime::Infinite();
  const SequenceTokens sequence = {Addresser::Start(), 1};
  std::vector<std::byte> rows(16 * kRowBytes);
  const Landing landing = {.data = rows.data()};
  const int32_t beyond = 100, within = 5;
  Client::Plan plan;
  EXPECT_FALSE(client_->SubmitTokens({&sequence, 1}, {&beyond, 1}, {}, {&landing, 1}, never).ok());
  EXPECT_EQ(refused(), 1u);
  EXPECT_FALSE(client_->SubmitTokens({&sequence, 1}, {}, {}, {&landing, 1}, never).ok());
  EXPECT_EQ(refused(), 2u);
  EXPECT_FALSE(client_->SubmitTokens({&sequence, 1}, {&within, 1}, {}, {}, never).ok());
  EXPECT_EQ(refused(), 3u) << "once";
  EXPECT_FALSE(
      client_->Prefetch(Addresser::Start(), {&beyond, 1}, {}, {&landing, 1}, never, &plan).ok());
  EXPECT_EQ(refused(), 4u);
  EXPECT_FALSE(client_->Submit(plan, {&landing, 1}, never).ok());
  EXPECT_EQ(refused(), 5u);
  EXPECT_EQ(client_->metrics().submitted, 0u);
}

TEST(Attach, AZoneHasAPlainName) {
  for (const std::string zone : {"a zone", "../x", "\n"}) {
    const absl::Status status = Client::Attach("embedded:/nowhere", {.zone = zone}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_NE(status.message().find("zone"), std::string::npos) << status;
  }
  EXPECT_NE(Client::Attach("embedded:/nowhere", {.zone = "rack-7"}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ClientTest, TheMemoryOfALargeBatchIsNotKept) {
  const auto held = [] {
    const auto info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  const std::vector<int32_t> tokens(2'000'000, 5);
  const SequenceTokens sequence = {Addresser::Start(), static_cast<uint32_t>(tokens.size())};
  const size_t before = held();
  // Addressed, and refused for want of a landing.
  EXPECT_FALSE(
      client_->SubmitTokens({&sequence, 1}, tokens, {}, {}, MonotonicTime::Infinite()).ok());
  EXPECT_LE(held(), before + (size_t{4} << 20));
}

}  // namespace
}  // namespace engram
