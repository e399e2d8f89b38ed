#include "client/transport/ticketed_transport.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/count_allocations.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr size_t kLayers = 2;
constexpr TicketState kIn = TicketState::kInFlight, kLanded = TicketState::kLanded,
                      kFailed = TicketState::kFailedLent, kReaped = TicketState::kReaped;

// Rows are carried by the test's own hands and threads.
class HandCarried final : public TicketedTransport {
 public:
  explicit HandCarried(TicketOptions options = {}, bool asynchronous = true)
      : TicketedTransport(std::move(options)),
        capabilities_{.name = "hand", .lands_asynchronously = asynchronous, .max_batch_rows = 1} {}
  ~HandCarried() override {
    if (usable.ok()) {
      ReapAll();
    } else {
      Disown();
    }
  }
  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return table_set_; }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }

  absl::Status CheckUsable() const override { return usable; }
  absl::Status Prepare(const BatchRequest&) override { return prepare; }
  absl::Status Start(const BatchRequest&, TicketedBatch& batch) override {
    last = TicketRef<TicketedBatch>(&batch);
    if (in_start) in_start(batch);
    return start;
  }
  void Advance(TicketedBatch&) override {
    if (in_advance) in_advance();
  }
  void TryCancel(TicketedBatch&) override { ++cancels; }
  void StopWriters(TicketedBatch& batch) override {
    ++stops;
    if (!stop_by_force) return TicketedTransport::StopWriters(batch);
    TicketLock lock(*this);
    EndAllWrites(batch);
  }
  void Forget(TicketedBatch&) override { ++forgotten; }

  bool Begin(TicketedBatch& batch) {
    TicketLock lock(*this);
    return BeginWrite(batch);
  }
  void EndOne(TicketedBatch& batch) {
    TicketLock lock(*this);
    EndWrite(batch);
  }
  void Land(TicketedBatch& batch, size_t layer) {
    TicketLock lock(*this);
    LandLayer(batch, layer);
  }
  bool FailWith(TicketedBatch& batch, absl::Status status) {
    TicketLock lock(*this);
    return Fail(batch, std::move(status));
  }
  bool MayAsk(TicketedBatch& batch) {
    TicketLock lock(*this);
    return MayAskAgain(batch);
  }
  bool IsLocked() {
    if (!mutex_.TryLock()) return true;
    mutex_.Unlock();
    return false;
  }
  // The batch submitted last, which is let go.
  TicketRef<TicketedBatch> TakeLast() { return std::move(last); }
  using TicketedTransport::EndLate;

  absl::Status usable, prepare, start;
  std::function<void(TicketedBatch&)> in_start;
  std::function<void()> in_advance;
  bool stop_by_force = false;
  TicketRef<TicketedBatch> last;
  std::atomic<int> cancels{0}, stops{0}, forgotten{0};

 private:
  const Capabilities capabilities_;
  const AttachedTableSet table_set_;
};

// What it is told, in order: a layer's index, "ok", or a code.
class Recorder final : public CompletionSink {
 public:
  explicit Recorder(HandCarried* transport = nullptr) : transport_(transport) {}
  void OnLayerLanded(uint64_t tag, size_t index) override { Note(tag, std::to_string(index)); }
  void OnTicketEnded(uint64_t tag, const absl::Status& status) override {
    Note(tag, status.ok() ? "ok" : absl::StatusCodeToString(status.code()));
  }
  std::vector<std::string> told() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return told_;
  }

 private:
  void Note(uint64_t tag, std::string what) {
    EXPECT_FALSE(transport_ != nullptr && transport_->IsLocked());
    const std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_EQ(tag, 7u);
    told_.push_back(std::move(what));
  }
  HandCarried* const transport_;
  std::mutex mutex_;
  std::vector<std::string> told_;
};

const std::vector<LayerRequest> kTwoLayers(kLayers);

BatchRequest Batch(CompletionSink* sink = nullptr,
                   MonotonicTime deadline = MonotonicTime::Infinite()) {
  return {.layers = kTwoLayers, .deadline = deadline, .sink = sink, .sink_tag = 7};
}

TEST(TicketedTransport, LandsWhenEveryLayerHasAndNoWriterIsLeft) {
  HandCarried transport;
  const Ticket ticket = transport.Submit(Batch()).value();
  TicketedBatch& batch = *transport.last;
  EXPECT_TRUE(transport.MayAsk(batch));
  EXPECT_TRUE(transport.Begin(batch));
  EXPECT_TRUE(transport.Begin(batch));
  EXPECT_FALSE(transport.MayAsk(batch));
  transport.Land(batch, 1);
  EXPECT_TRUE(transport.WaitLayer(ticket, 1).ok());
  EXPECT_EQ(transport.Poll(ticket), kIn);
  transport.Land(batch, 0);
  transport.EndOne(batch);
  EXPECT_EQ(transport.Poll(ticket), kIn);
  transport.EndOne(batch);
  EXPECT_EQ(transport.Poll(ticket), kLanded);
  EXPECT_TRUE(transport.Wait(ticket).ok());
  EXPECT_FALSE(transport.Begin(batch));
  transport.Cancel(ticket);
  EXPECT_EQ(transport.Poll(ticket), kLanded);
  transport.Reap(ticket);
  EXPECT_EQ(transport.Poll(ticket), kReaped);
  EXPECT_EQ(transport.Wait(ticket).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(transport.cancels, 0);
  EXPECT_EQ(transport.forgotten, 1);
}

TEST(TicketedTransport, LayersThatLandedStayWhateverBecomesOfTheOthers) {
  HandCarried transport;
  const Ticket ticket = transport.Submit(Batch()).value();
  transport.Land(*transport.last, 0);
  EXPECT_TRUE(transport.FailWith(*transport.last, absl::DataLossError("fenced")));
  EXPECT_FALSE(transport.FailWith(*transport.last, absl::InternalError("late")));
  transport.Land(*transport.last, 1);
  EXPECT_EQ(transport.Poll(ticket), kFailed);
  EXPECT_TRUE(transport.WaitLayer(ticket, 0).ok());
  EXPECT_EQ(transport.WaitLayer(ticket, 1).message(), "fenced");
  EXPECT_EQ(transport.Wait(ticket).code(), absl::StatusCode::kDataLoss);
  transport.Reap(ticket);
  EXPECT_EQ(transport.cancels, 1);
}

TEST(TicketedTransport, RefusesBeforeAnythingIsOpenAndLeavesNothingBehind) {
  HandCarried transport;
  Recorder sink(&transport);
  transport.prepare = absl::InvalidArgumentError("layer 9");
  EXPECT_EQ(transport.Submit(Batch(&sink)).status().message(), "layer 9");
  transport.prepare = absl::OkStatus();
  transport.start = absl::UnavailableError("gone");
  transport.in_start = [&](TicketedBatch& batch) {
    transport.FailWith(batch, absl::InternalError("x"));
  };
  for (uint32_t i = 0; i <= kMaxOpenTickets; ++i) {
    EXPECT_EQ(transport.Submit(Batch(&sink)).status().message(), "gone");
  }
  EXPECT_EQ(transport.forgotten, int{kMaxOpenTickets} + 1);
  EXPECT_TRUE(sink.told().empty());
}

TEST(TicketedTransport, BoundsOpenTicketsAndSaysWhatToDo) {
  HandCarried transport;
  std::vector<Ticket> tickets;
  for (uint32_t i = 0; i < kMaxOpenTickets; ++i) {
    tickets.push_back(transport.Submit(Batch()).value());
  }
  const absl::Status status = transport.Submit(Batch()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("reap"));
  transport.Reap(tickets[5]);
  const Ticket next = transport.Submit(Batch()).value();
  EXPECT_NE(next, tickets[5]);
  EXPECT_EQ(transport.Poll(tickets[5]), kReaped);
  EXPECT_EQ(transport.Poll({}), kReaped);
  EXPECT_EQ(transport.Poll({UINT64_MAX}), kReaped);
}

TEST(TicketedTransport, WhatLandsInSubmitHasLandedAndTellsItsSink) {
  HandCarried transport({}, /*asynchronous=*/false);
  Recorder sink(&transport);
  const Ticket ticket = transport.Submit(Batch(&sink)).value();
  EXPECT_THAT(sink.told(), ElementsAre("0", "1", "ok"));
  EXPECT_EQ(transport.Poll(ticket), kLanded);
  EXPECT_TRUE(transport.WaitLayer(ticket, 1).ok());
  transport.Reap(ticket);
  EXPECT_EQ(sink.told().size(), 3u);
}

TEST(TicketedTransport, TellsItsSinkInTheOrderOfLanding) {
  HandCarried transport;
  Recorder sink(&transport);
  const Ticket ticket = transport.Submit(Batch(&sink)).value();
  transport.Land(*transport.last, 1);
  EXPECT_THAT(sink.told(), ElementsAre("1"));
  transport.Land(*transport.last, 0);
  EXPECT_THAT(sink.told(), ElementsAre("1", "0", "ok"));
  transport.Reap(ticket);
  EXPECT_EQ(sink.told().size(), 3u);
}

TEST(TicketedTransport, TellsItsSinkOfAnErrorOnce) {
  HandCarried transport;
  Recorder sink(&transport);
  const Ticket ticket = transport.Submit(Batch(&sink)).value();
  transport.Land(*transport.last, 1);
  transport.Cancel(ticket);
  EXPECT_EQ(transport.cancels, 1);
  transport.FailWith(*transport.last, absl::InternalError("late"));
  transport.Reap(ticket);
  EXPECT_THAT(sink.told(), ElementsAre("1", "CANCELLED"));
  EXPECT_EQ(transport.cancels, 1);
}

TEST(TicketedTransport, WhatLandsBeforeSubmitReturnsIsToldToo) {
  HandCarried transport;
  Recorder sink(&transport);
  transport.in_start = [&](TicketedBatch& batch) {
    transport.Land(batch, 0);
    transport.Land(batch, 1);
    EXPECT_TRUE(sink.told().empty());  // Submit may still return an error
  };
  const Ticket ticket = transport.Submit(Batch(&sink)).value();
  EXPECT_THAT(sink.told(), ElementsAre("0", "1", "ok"));
  transport.Reap(ticket);
}

TEST(TicketedTransport, ADeadlineEndsAWait) {
  FakeClock clock;
  HandCarried transport({.clock = &clock, .owner = "engramd at there:1"});
  const Ticket ticket = transport.Submit(Batch(nullptr, clock.After(absl::Seconds(3)))).value();
  std::thread waiter([&] {
    const absl::Status status = transport.Wait(ticket);
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), HasSubstr("engramd at there:1"));
  });
  clock.AwaitWaiters(1);
  clock.Advance(absl::Seconds(2));
  clock.AwaitWaiters(1);
  EXPECT_EQ(transport.Poll(ticket), kIn);
  clock.Advance(absl::Seconds(1));
  waiter.join();
  EXPECT_EQ(transport.Poll(ticket), kFailed);
  EXPECT_EQ(transport.cancels, 1);
  transport.Reap(ticket);
  EXPECT_EQ(transport.cancels, 1);
}

TEST(TicketedTransport, ADeadlineEndsAPollAndRowsFoundAtTheSameLookCount) {
  FakeClock clock;
  HandCarried transport({.clock = &clock});
  const BatchRequest request = Batch(nullptr, clock.After(absl::Seconds(3)));
  const Ticket late = transport.Submit(request).value();
  const Ticket found = transport.Submit(request).value();
  const TicketRef<TicketedBatch> batch = transport.TakeLast();
  clock.Advance(absl::Seconds(3));
  EXPECT_EQ(transport.Poll(late), kFailed);
  transport.in_advance = [&] {
    transport.Land(*batch, 0);
    transport.Land(*batch, 1);
  };
  EXPECT_EQ(transport.Poll(found), kLanded);
}

TEST(TicketedTransport, EndsLateTicketsWithoutAPoll) {
  FakeClock clock;
  HandCarried transport({.clock = &clock});
  Recorder sink(&transport);
  EXPECT_TRUE(transport.EndLate().is_infinite());
  const MonotonicTime soon = clock.After(absl::Seconds(1));
  const MonotonicTime later = clock.After(absl::Seconds(5));
  const Ticket first = transport.Submit(Batch(&sink, soon)).value();
  const Ticket second = transport.Submit(Batch(nullptr, later)).value();
  EXPECT_EQ(transport.EndLate(), soon);
  clock.Advance(absl::Seconds(1));
  EXPECT_EQ(transport.EndLate(), later);
  EXPECT_THAT(sink.told(), ElementsAre("DEADLINE_EXCEEDED"));
  EXPECT_EQ(transport.Poll(first), kFailed);
  EXPECT_EQ(transport.Poll(second), kIn);
}

TEST(TicketedTransport, ReapStopsWritersThatDoNotEnd) {
  FakeClock clock;
  HandCarried transport({.clock = &clock});
  transport.stop_by_force = true;
  const Ticket ticket = transport.Submit(Batch()).value();
  ASSERT_TRUE(transport.Begin(*transport.last));
  std::thread reaper([&] { transport.Reap(ticket); });
  clock.AwaitWaiters(1);
  EXPECT_EQ(transport.stops, 0);
  EXPECT_EQ(transport.Poll(ticket), kFailed);
  clock.Advance(kReapPatience);
  reaper.join();
  EXPECT_EQ(transport.stops, 1);
  EXPECT_EQ(transport.last->writers(), 0u);
  EXPECT_EQ(transport.Poll(ticket), kReaped);
}

TEST(TicketedTransport, ReapEndsAWaitThatIsUnderWay) {
  FakeClock clock;
  HandCarried transport({.clock = &clock});
  const Ticket ticket = transport.Submit(Batch(nullptr, clock.After(absl::Hours(1)))).value();
  std::thread waiter(
      [&] { EXPECT_EQ(transport.Wait(ticket).code(), absl::StatusCode::kCancelled); });
  clock.AwaitWaiters(1);
  transport.Reap(ticket);
  EXPECT_EQ(transport.Wait(ticket).code(), absl::StatusCode::kFailedPrecondition);
  waiter.join();
}

// Every writer that was let write has ended when Reap returns, and none is let after it: the
// buffer is the caller's again. Under ThreadSanitizer a late one is a data race.
TEST(TicketedTransport, ALateWriterNeverTouchesABufferThatWasGivenBack) {
  HandCarried transport;
  for (int round = 0; round < 200; ++round) {
    std::vector<std::byte> buffer(4096);
    const Ticket ticket = transport.Submit(Batch()).value();
    const TicketRef<TicketedBatch> batch = transport.TakeLast();
    std::vector<std::thread> writers;
    for (size_t w = 0; w < 2; ++w) {
      writers.emplace_back([&, w] {
        const size_t half = buffer.size() / 2;
        while (transport.Begin(*batch)) {
          std::memset(buffer.data() + w * half, 1, half);
          transport.EndOne(*batch);
        }
      });
    }
    if (round % 3 == 0) std::this_thread::yield();
    if (round % 3 == 1) transport.Cancel(ticket);
    transport.Reap(ticket);
    std::memset(buffer.data(), 7, buffer.size());
    for (std::thread& writer : writers) writer.join();
    for (const std::byte byte : buffer) ASSERT_EQ(byte, std::byte{7});
  }
}

TEST(TicketedTransport, CancelRacesLandingAndOneOfThemWins) {
  HandCarried transport;
  for (int round = 0; round < 300; ++round) {
    auto sink = std::make_unique<Recorder>();
    std::vector<std::byte> buffer(64);
    const Ticket ticket = transport.Submit(Batch(sink.get())).value();
    const TicketRef<TicketedBatch> batch = transport.TakeLast();
    std::thread lander([&] {
      for (size_t layer = 0; layer < kLayers; ++layer) {
        if (!transport.Begin(*batch)) return;
        std::memset(buffer.data() + layer * 32, 1, 32);
        transport.Land(*batch, layer);
        transport.EndOne(*batch);
      }
    });
    std::thread canceller([&] { transport.Cancel(ticket); });
    const absl::Status status = transport.Wait(ticket);
    const TicketState state = transport.Poll(ticket);
    transport.Reap(ticket);
    const std::vector<std::string> told = sink->told();
    sink.reset();  // nobody tells it anything any more
    if (status.ok()) {
      EXPECT_EQ(state, kLanded);
      EXPECT_THAT(told, ElementsAre("0", "1", "ok"));
      for (const std::byte byte : buffer) ASSERT_EQ(byte, std::byte{1});
    } else {
      EXPECT_EQ(state, kFailed);
      EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
      EXPECT_EQ(told.back(), "CANCELLED");
    }
    std::memset(buffer.data(), 7, buffer.size());
    lander.join();
    canceller.join();
  }
}

TEST(TicketedTransport, ASinkIsToldExactlyOnceAndNeverAfterReap) {
  HandCarried transport;
  for (int round = 0; round < 300; ++round) {
    auto sink = std::make_unique<Recorder>();
    const Ticket ticket = transport.Submit(Batch(sink.get())).value();
    const TicketRef<TicketedBatch> batch = transport.TakeLast();
    std::thread first([&] { transport.Land(*batch, 0); });
    std::thread second([&] { transport.Land(*batch, 1); });
    if (round % 2 == 0) transport.Wait(ticket).IgnoreError();
    std::thread other_reaper([&] { transport.Reap(ticket); });
    transport.Reap(ticket);
    const std::vector<std::string> told = sink->told();
    sink.reset();
    ASSERT_FALSE(told.empty());
    EXPECT_TRUE(round % 2 == 1 || told.size() == kLayers + 1);
    EXPECT_EQ(
        std::count(told.begin(), told.end(), "0") + std::count(told.begin(), told.end(), "1") + 1,
        static_cast<long>(told.size()));
    EXPECT_TRUE(told.back() == "ok" || told.back() == "CANCELLED");
    first.join();
    second.join();
    other_reaper.join();
  }
}

TEST(TicketedTransport, ABatchThatSomethingLateRefersToIsNotUsedAgain) {
  HandCarried transport;
  const Ticket first = transport.Submit(Batch()).value();
  const TicketRef<TicketedBatch> late = transport.TakeLast();
  transport.Reap(first);
  const Ticket second = transport.Submit(Batch()).value();
  EXPECT_NE(transport.last.get(), late.get());
  EXPECT_EQ(late->state(), kReaped);
  EXPECT_FALSE(transport.Begin(*late));
  TicketedBatch* const used = transport.TakeLast().get();
  transport.Reap(second);
  EXPECT_TRUE(transport.Submit(Batch()).ok());
  EXPECT_EQ(transport.last.get(), used);
}

TEST(TicketedTransport, AllocatesNothingOnceWarm) {
  HandCarried transport;
  class Silent final : public CompletionSink {
    void OnLayerLanded(uint64_t, size_t) override {}
    void OnTicketEnded(uint64_t, const absl::Status&) override {}
  } sink;
  const auto step = [&] {
    std::array<Ticket, kSpareBatches> tickets;
    for (size_t i = 0; i < tickets.size(); ++i) {
      tickets[i] = transport.Submit(Batch(i % 2 == 0 ? &sink : nullptr)).value();
      const TicketRef<TicketedBatch> batch = transport.TakeLast();
      transport.Begin(*batch);
      for (size_t layer = 0; layer < kLayers; ++layer) transport.Land(*batch, layer);
      transport.EndOne(*batch);
    }
    for (const Ticket ticket : tickets) {
      EXPECT_TRUE(transport.Wait(ticket).ok());
      transport.Reap(ticket);
    }
  };
  for (int i = 0; i < 3; ++i) step();
  const uint64_t before = testing::Allocations();
  for (int i = 0; i < 20; ++i) step();
  EXPECT_EQ(testing::Allocations(), before);
}

TEST(TicketedTransport, OfNoUseItRefusesEveryCall) {
  HandCarried transport;
  const Ticket ticket = transport.Submit(Batch()).value();
  transport.usable = absl::FailedPreconditionError("forked");
  EXPECT_EQ(transport.Submit(Batch()).status().message(), "forked");
  EXPECT_EQ(transport.Wait(ticket).message(), "forked");
  EXPECT_EQ(transport.Poll(ticket), kReaped);
  transport.Cancel(ticket);
  transport.Reap(ticket);
  EXPECT_TRUE(transport.last->in_flight());
  transport.TakeLast();
}

TEST(TicketedTransportDeathTest, EndsTheProcessWhereAWriterWouldBeMiscounted) {
  HandCarried transport;
  const Ticket ticket = transport.Submit(Batch()).value();
  EXPECT_DEATH(transport.EndOne(*transport.last), "a writer ended twice");
  transport.Land(*transport.last, 0);
  EXPECT_DEATH(transport.Land(*transport.last, 0), "a layer landed twice");
  EXPECT_DEATH(transport.Land(*transport.last, kLayers), "does not have");
  transport.Reap(ticket);
}

}  // namespace
}  // namespace engram
