// For tests of what RDMA clients do with tickets and connections: an exchange over connections that
// do and complete what a test says, without a device. Not thread-safe but for what says so.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/transport/rdma/rdma_exchange.h"
#include "gtest/gtest.h"
#include "memstore/base/mutex.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram::testing {

// What was done to connections, in order: "open 2", "send 2:1" (a batch, by its number, over the
// second connection), "close 1".
using Events = std::vector<std::string>;

// A connection that sends whole batches and completes what a test says.
struct FakeConnection {
  int number = 0;
  bool closed = false;
  bool told_closed_first = true;  // nothing was forgotten before Close
  absl::Status ended;             // the lease's word
  absl::Status failure;           // what the next look for completions finds
  absl::Status refuses;           // what every batch is refused with
  bool quiet = false;             // no events: they allocate
  std::vector<RdmaBatch*> under_way;
  std::atomic<uint32_t> to_answer{0};            // of those under way, by the next look
  std::atomic<uint32_t> to_land{0};              // layers of the first one, by the next look
  std::atomic<uint32_t> after_sleep{0};          // the same, once somebody slept
  absl::Duration sleeps = absl::ZeroDuration();  // what a sleep takes; else all that is allowed
  RdmaCounts counts;
};

class FakeLink final : public RdmaLink {
 public:
  FakeLink(std::shared_ptr<FakeConnection> connection, Events* events, FakeClock* clock)
      : connection_(std::move(connection)), events_(events), clock_(clock) {}
  void Close() override {
    connection_->closed = true;
    events_->push_back(absl::StrCat("close ", connection_->number));
  }
  absl::Status Ended() const override { return connection_->ended; }
  bool Arm() override { return true; }
  void Sleep(absl::Duration most) override {
    clock_->Advance(connection_->sleeps > absl::ZeroDuration() ? connection_->sleeps : most);
    connection_->to_answer += connection_->after_sleep.exchange(0);
  }
  RdmaCounts Counts() const override { return connection_->counts; }
  void BreakForTest() override { connection_->failure = absl::UnavailableError("broken"); }

 private:
  const std::shared_ptr<FakeConnection> connection_;
  Events* const events_;
  FakeClock* const clock_;
};

class FakeWay final : public RequestWay {
 public:
  FakeWay(std::shared_ptr<FakeConnection> connection, Events* events)
      : connection_(std::move(connection)), events_(events) {}
  absl::Status Send(RdmaSendQueue& queue, RdmaTickets& tickets) override {
    while (RdmaBatch* const batch = queue.Next()) {
      EXPECT_FALSE(connection_->closed);
      while (!batch->AllWritten()) static_cast<void>(batch->NextRead());
      tickets.OnPosted(*batch);
      connection_->under_way.push_back(batch);
      if (connection_->quiet) continue;
      events_->push_back(absl::StrCat("send ", batch->number, ":", connection_->number));
    }
    return absl::OkStatus();
  }
  absl::StatusOr<bool> TakeCompletions(RdmaTickets& tickets) override {
    if (!connection_->failure.ok()) return connection_->failure;
    const bool some = connection_->to_answer > 0 || connection_->to_land > 0;
    for (; connection_->to_land > 0; --connection_->to_land) {
      LandNext(*connection_->under_way.front(), tickets);
    }
    for (; connection_->to_answer > 0; --connection_->to_answer) {
      ++connection_->counts.completions;
      RdmaBatch& batch = *connection_->under_way.front();
      connection_->under_way.erase(connection_->under_way.begin());
      while (LandNext(batch, tickets)) {
      }
      tickets.OnAnswered(batch);
    }
    return some;
  }
  absl::Status Check(const RdmaBatch&) const override { return connection_->refuses; }
  void ForgetAll(std::vector<RdmaBatch*>* batches) override {
    connection_->told_closed_first = connection_->closed;
    for (int twice = 0; twice < 2; ++twice) {
      for (RdmaBatch* const batch : connection_->under_way) batches->push_back(batch);
    }
    connection_->under_way.clear();
  }

 private:
  // From the last layer on; false when all have landed.
  static bool LandNext(RdmaBatch& batch, RdmaTickets& tickets) {
    for (auto place = static_cast<uint32_t>(batch.layer_count()); place-- > 0;) {
      if (batch.HasLanded(place)) continue;
      EXPECT_TRUE(batch.Land({.place = place, .rows = batch.rows(place)}));
      tickets.OnLayerLanded(batch, place);
      return true;
    }
    return false;
  }
  const std::shared_ptr<FakeConnection> connection_;
  Events* const events_;
};

// The exchange over connections that a test opens.
class TestExchange final : public RdmaExchange {
 public:
  using Open = std::function<absl::StatusOr<RdmaOpened>(MonotonicTime deadline)>;

  TestExchange(const RdmaExchangeOptions& options, const Manifest& manifest, Open open)
      : RdmaExchange(options), open_(std::move(open)) {
    attached_.manifest = manifest;
    Begin(open_(MonotonicTime::Infinite()).value());
  }
  ~TestExchange() override { EndAll(); }

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return attached_; }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }

 private:
  absl::Status Prepare(const BatchRequest&) override { return absl::OkStatus(); }
  absl::Status Fill(const BatchRequest& request, RdmaBatch& batch) const override {
    if (request.layers[0].layer == 0) return absl::InvalidArgumentError("no");
    return batch.Take(request, attached_.manifest,
                      [](const std::byte*, uint64_t) { return RdmaLandingPlace{}; });
  }
  absl::StatusOr<RdmaOpened> OpenAnother(MonotonicTime deadline) override {
    return open_(deadline);
  }

  const Open open_;
  const Capabilities capabilities_{
      .name = "test", .lands_asynchronously = true, .max_batch_rows = 100};
  AttachedTableSet attached_;
};

// What a sink was told, ticket by ticket.
class Recorder final : public CompletionSink {
 public:
  void OnLayerLanded(uint64_t tag, size_t index) override { Note(tag, absl::StrCat(index)); }
  void OnTicketEnded(uint64_t tag, const absl::Status& status) override {
    Note(tag, absl::StatusCodeToString(status.code()));
  }
  std::vector<std::string> told(uint64_t tag = 0) {
    const MutexLock lock(mutex_);
    return told_[tag];
  }

 private:
  void Note(uint64_t tag, std::string what) {
    const MutexLock lock(mutex_);
    told_[tag].push_back(std::move(what));
  }
  Mutex mutex_;
  std::array<std::vector<std::string>, 8> told_ ABSL_GUARDED_BY(mutex_);
};

class ExchangeFixture : public ::testing::Test {
 protected:
  ExchangeFixture() {
    manifest_.scheme.max_order = 2;
    manifest_.scheme.heads_per_order = 1;
    for (const uint32_t layer : {1, 2}) {
      manifest_.layers.push_back(
          {.layer = layer, .rows = 10, .row_bytes = 8, .encoding = {}, .shards = {}});
    }
    Make(true);
  }
  void Make(bool resend, bool asks_once = false) {
    exchange_.reset();
    connections_.clear();
    events_.clear();
    exchange_ = std::make_unique<TestExchange>(
        RdmaExchangeOptions{.address = "owner:1",
                            .spin = absl::ZeroDuration(),
                            .resend = resend,
                            .asks_once = asks_once,
                            .clock = &clock_},
        manifest_, [this](MonotonicTime deadline) -> absl::StatusOr<RdmaOpened> {
          if (while_opening_ != nullptr) while_opening_();
          clock_.Advance(std::min(opening_takes_, deadline - clock_.Now()));
          if (!refuse_.ok()) return refuse_;
          if (clock_.Now() >= deadline) return absl::UnavailableError("no answer in time");
          return Connection();
        });
  }
  RdmaOpened Connection() {
    auto connection = std::make_shared<FakeConnection>();
    connection->number = static_cast<int>(connections_.size()) + 1;
    connection->after_sleep = answers_of_next_;
    connection->refuses = refusal_of_next_;
    connections_.push_back(connection);
    events_.push_back(absl::StrCat("open ", connection->number));
    return {.link = std::make_shared<FakeLink>(connection, &events_, &clock_),
            .way = std::make_unique<FakeWay>(connection, &events_)};
  }
  absl::StatusOr<Ticket> Submit(absl::Duration time = absl::Hours(2),
                                CompletionSink* sink = nullptr, uint64_t tag = 0) {
    static constexpr RowId kRow = 3;
    const LayerRequest layers[] = {
        {.layer = 1, .row_ids = {&kRow, 1}, .landing = {.data = memory_}},
        {.layer = 2, .row_ids = {&kRow, 1}, .landing = {.data = memory_ + 8}}};
    return exchange_->Submit(
        {.layers = layers, .deadline = clock_.After(time), .sink = sink, .sink_tag = tag});
  }
  FakeConnection& connection(size_t number) { return *connections_[number - 1]; }

  FakeClock clock_;
  Manifest manifest_;
  std::byte memory_[16] = {};
  Events events_;
  uint32_t answers_of_next_ = 0;  // a connection's that is opened, once somebody slept
  absl::Status refusal_of_next_;  // what such a one refuses every batch with
  absl::Status refuse_;           // what opening another connection ends with
  absl::Duration opening_takes_;  // the same; by its deadline it is given up
  std::function<void()> while_opening_;
  std::deque<std::shared_ptr<FakeConnection>> connections_;
  std::unique_ptr<TestExchange> exchange_;
};

}  // namespace engram::testing
