#include "gpu/prefetch/prefetcher.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "client/transport/local/embedded_transport.h"
#include "client/transport/ticketed_transport.h"
#include "gmock/gmock.h"
#include "gpu/testing/prefetch_fixture.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"

namespace engram {
namespace {

using testing::CopyingPlaceRows;
using ::testing::ElementsAre;
using testing::ExpectExactRows;
using testing::Fate;
using testing::LayerSaw;
using testing::PrefetchFixture;
using testing::PrefetchWay;
using testing::RandomStep;
using testing::SmallStep;
using testing::Soon;

constexpr uint32_t kMaxTokens = 96;
constexpr int kSteps = 12;

// Every way that rows can come: transport or mapped, one memory or two, as fetched or placed.
std::vector<PrefetchWay> AllWays(std::atomic<int>* placed) {
  std::vector<PrefetchWay> ways;
  for (const bool separate : {false, true}) {
    for (const bool places : {false, true}) {
      for (const bool faulty : {false, true}) {
        PrefetchWay way{.separate_memory = separate, .faulty = faulty};
        way.options.max_tokens = kMaxTokens;
        if (places) {
          way.options.place_rows = CopyingPlaceRows(placed);
          way.options.placed_row_bytes = 264;
        }
        ways.push_back(way);
        if (places) {
          way.options.distinct = true;
          ways.push_back(way);
          way.options.distinct = false;
        }
        if (faulty) continue;  // it maps nothing
        way.options.path = FetchPath::kMapped;
        ways.push_back(way);
      }
    }
  }
  return ways;
}

TEST(Prefetcher, RowsAreExactWhicheverWayTheyCome) {
  std::atomic<int> placed{0};
  int expected_placed = 0;
  for (const PrefetchWay& way : AllWays(&placed)) {
    SCOPED_TRACE(::testing::Message()
                 << "separate " << way.separate_memory << " async " << way.faulty << " places "
                 << (way.options.place_rows != nullptr) << " distinct " << way.options.distinct
                 << " mapped " << (way.options.path == FetchPath::kMapped));
    PrefetchFixture fixture(way);
    std::mt19937 random(3);
    for (int i = 0; i < kSteps; ++i) {
      const SmallStep step = RandomStep(kMaxTokens, random);
      ExpectExactRows(fixture, fixture.prefetcher->Prefetch(step.Request(Soon())).value(), step);
    }
    if (way.options.place_rows != nullptr) expected_placed += 2 * kSteps;
  }
  EXPECT_EQ(placed, expected_placed);
}

TEST(Prefetcher, TakesRowIdsThatTheDeviceMakes) {
  for (const bool mapped : {false, true}) {
    for (const bool separate : {false, true}) {
      PrefetchWay way{.separate_memory = separate};
      way.options = {.max_tokens = kMaxTokens,
                     .path = mapped ? FetchPath::kMapped : FetchPath::kTransport};
      PrefetchFixture fixture(way);
      const auto addresses = fixture.device->MakeStream("addresses").value();
      const auto ready = fixture.device->MakeEvent().value();
      std::mt19937 random(4);
      for (int i = 0; i < kSteps; ++i) {
        const SmallStep step = RandomStep(kMaxTokens, random);
        const size_t layer_ids = step.row_ids[0].size();
        const DeviceBuffer ids =
            fixture.device->Allocate(MemoryKind::kDevice, 2 * layer_ids * sizeof(RowId)).value();
        // Made late, behind the event, by a stream that has not run yet.
        ASSERT_TRUE(addresses
                        ->LaunchOnHost([&step, to = ids.as<RowId>(), layer_ids] {
                          absl::SleepFor(absl::Milliseconds(1));
                          std::copy_n(step.row_ids[0].data(), layer_ids, to);
                          std::copy_n(step.row_ids[1].data(), layer_ids, to + layer_ids);
                        })
                        .ok());
        ASSERT_TRUE(addresses->Record(*ready).ok());
        const StepTicket ticket = fixture.prefetcher
                                      ->Prefetch({.device_row_ids = ids.as<RowId>(),
                                                  .device_tokens = step.tokens(),
                                                  .device_ready = ready.get(),
                                                  .deadline = Soon()})
                                      .value();
        ExpectExactRows(fixture, ticket, step);
      }
    }
  }
}

TEST(Prefetcher, TheLayerThatIsDueFirstTravelsFirst) {
  PrefetchWay way{.faulty = true, .options = {.max_tokens = kMaxTokens, .slots = 3}};
  PrefetchFixture fixture(way, [](uint64_t) { return Fate{.layer_delay = absl::Milliseconds(1)}; });
  std::mt19937 random(5);
  std::vector<StepTicket> tickets(3);
  for (StepTicket& ticket : tickets) {
    ticket = fixture.prefetcher->Prefetch(RandomStep(kMaxTokens, random).Request(Soon())).value();
  }
  for (const StepTicket& ticket : tickets) EXPECT_TRUE(fixture.prefetcher->Finish(ticket).ok());
  int ahead = 0;
  for (const uint32_t layer : fixture.fault().order()) {
    ahead += layer == 1 ? 1 : -1;
    EXPECT_GE(ahead, 0) << "a layer 14 before its layer 1";
  }
  EXPECT_EQ(fixture.fault().order().size(), 6u);
}

// Gathers in the caller's thread, as the one it stands on, but layer 14 only when it is let.
class GatedTransport final : public TicketedTransport {
 public:
  GatedTransport() : TicketedTransport({}), over_(EmbeddedTransport::Over(testing::SmallV41())) {}
  ~GatedTransport() override { ReapAll(); }
  const Capabilities& capabilities() const override { return over_->capabilities(); }
  const AttachedTableSet& table_set() const override { return over_->table_set(); }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }
  std::atomic<bool> open{false};

 private:
  absl::Status Prepare(const BatchRequest& batch) override {
    for (const LayerRequest& layer : batch.layers) {
      while (layer.layer == 14 && !open) absl::SleepFor(absl::Milliseconds(1));
    }
    const absl::StatusOr<Ticket> landed = over_->Submit(batch);
    if (landed.ok()) over_->Reap(*landed);
    return landed.status();
  }
  const std::unique_ptr<Transport> over_;
};

TEST(Prefetcher, WhereRowsAreGatheredInPlaceALayerIsThereBeforeTheNextIsBegun) {
  PrefetchFixture fixture({.options = {.max_tokens = kMaxTokens}});
  GatedTransport transport;
  fixture.prefetcher =
      Prefetcher::Create(transport, *fixture.device, {.max_tokens = kMaxTokens}).value();
  std::mt19937 random(5);
  const SmallStep step = RandomStep(kMaxTokens, random);
  const StepTicket ticket = fixture.prefetcher->Prefetch(step.Request(Soon())).value();
  LayerSaw saw[2] = {};
  ASSERT_TRUE(fixture.RunLayer(ticket, 0, step, &saw[0]).ok());
  ASSERT_TRUE(fixture.stream->Synchronize().ok());  // for ever, were both layers one batch
  EXPECT_EQ(saw[0], LayerSaw::kExactRows);
  transport.open = true;
  ASSERT_TRUE(fixture.RunLayer(ticket, 1, step, &saw[1]).ok());
  ASSERT_TRUE(fixture.stream->Synchronize().ok());
  EXPECT_EQ(saw[1], LayerSaw::kExactRows);
  EXPECT_TRUE(fixture.prefetcher->Finish(ticket).ok());
  fixture.prefetcher.reset();
}

TEST(Prefetcher, EndsByItsDeadlineOverATransportThatDoesNot) {
  PrefetchWay way{.faulty = true, .options = {.max_tokens = kMaxTokens, .slots = 2}};
  PrefetchFixture fixture(way, [](uint64_t batch) {
    return batch == 0 ? Fate{.delay = absl::Milliseconds(400), .deaf = true} : Fate{};
  });
  std::mt19937 random(5);
  const SmallStep step = RandomStep(kMaxTokens, random);
  const MonotonicTime deadline = RealClock().Now() + absl::Milliseconds(20);
  const StepTicket ticket = fixture.prefetcher->Prefetch(step.Request(deadline)).value();
  LayerSaw saw[2] = {};
  for (size_t layer : {0, 1}) ASSERT_TRUE(fixture.RunLayer(ticket, layer, step, &saw[layer]).ok());
  ASSERT_TRUE(fixture.stream->Synchronize().ok());
  EXPECT_EQ(fixture.fault().order().size(), 0u) << "the stream waited for the transport";
  EXPECT_THAT(saw, ElementsAre(LayerSaw::kGateShut, LayerSaw::kGateShut));
  // Finish waits for the buffers; the rows that came meanwhile count for nothing.
  EXPECT_EQ(fixture.prefetcher->Finish(ticket).code(), absl::StatusCode::kDeadlineExceeded);
  for (int i = 0; i < 4; ++i) {
    const StepTicket next = fixture.prefetcher->Prefetch(step.Request(Soon())).value();
    EXPECT_TRUE(fixture.prefetcher->Finish(next).ok());
  }
}

TEST(Prefetcher, EndsByItsDeadlineWhenTheDevicesIdsDoNotCome) {
  for (const FetchPath path : {FetchPath::kTransport, FetchPath::kMapped}) {
    PrefetchFixture fixture({.options = {.max_tokens = kMaxTokens, .path = path}});
    const auto addresses = fixture.device->MakeStream("addresses").value();
    const auto ready = fixture.device->MakeEvent().value();
    const DeviceBuffer word = fixture.device->Allocate(MemoryKind::kPinnedHost, 4).value();
    const DeviceBuffer ids =
        fixture.device->Allocate(MemoryKind::kDevice, sizeof(RowId) * 2 * 24).value();
    auto* const go = word.as<std::atomic<uint32_t>>();
    ASSERT_TRUE(addresses->WaitWord(go, WordTest::kAnyBit, 1).ok());
    ASSERT_TRUE(addresses->Record(*ready).ok());
    const StepTicket ticket =
        fixture.prefetcher
            ->Prefetch({.device_row_ids = ids.as<RowId>(),
                        .device_tokens = 1,
                        .device_ready = ready.get(),
                        .deadline = RealClock().Now() + absl::Milliseconds(20)})
            .value();
    const SmallStep no_step;  // its rows never come
    LayerSaw saw = LayerSaw::kNothing;
    ASSERT_TRUE(fixture.RunLayer(ticket, 0, no_step, &saw).ok());
    ASSERT_TRUE(fixture.stream->Synchronize().ok());
    EXPECT_EQ(saw, LayerSaw::kGateShut);
    go->store(1);  // the buffers are the prefetcher's again once the ids have come
    fixture.device->WordChanged(*go);
    EXPECT_EQ(fixture.prefetcher->Finish(ticket).code(), absl::StatusCode::kDeadlineExceeded);
  }
}

TEST(Prefetcher, ALayerRunsWhileTheNextIsStillUnderWay) {
  PrefetchWay way{.faulty = true, .options = {.max_tokens = kMaxTokens}};
  PrefetchFixture fixture(way, [](uint64_t) { return Fate{.layer_delay = absl::Hours(1)}; });
  std::mt19937 random(6);
  const SmallStep step = RandomStep(kMaxTokens, random);
  const StepTicket ticket =
      fixture.prefetcher->Prefetch(step.Request(RealClock().Now() + absl::Milliseconds(300)))
          .value();
  LayerSaw first = LayerSaw::kNothing;
  LayerSaw second = LayerSaw::kNothing;
  ASSERT_TRUE(fixture.RunLayer(ticket, 0, step, &first).ok());
  ASSERT_TRUE(fixture.stream->Synchronize().ok());
  EXPECT_EQ(first, LayerSaw::kExactRows);
  // The other never comes: the stream goes on all the same, with the gate shut.
  ASSERT_TRUE(fixture.RunLayer(ticket, 1, step, &second).ok());
  ASSERT_TRUE(fixture.stream->Synchronize().ok());
  EXPECT_EQ(second, LayerSaw::kGateShut);
  EXPECT_EQ(fixture.prefetcher->Finish(ticket).code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(Prefetcher, ALateCompletionSatisfiesNoLaterStep) {
  // One slot: the second step has the buffers and words of the first, whose rows come while the
  // second waits.
  PrefetchWay way{.faulty = true, .options = {.max_tokens = kMaxTokens, .slots = 1}};
  PrefetchFixture fixture(way, [](uint64_t batch) {
    return Fate{.delay = batch % 2 == 0 ? absl::Milliseconds(20) : absl::Milliseconds(40)};
  });
  std::mt19937 random(7);
  for (int i = 0; i < 4; ++i) {
    const SmallStep late = RandomStep(kMaxTokens, random);
    const SmallStep step = RandomStep(kMaxTokens, random);
    const StepTicket first =
        fixture.prefetcher->Prefetch(late.Request(RealClock().Now() + absl::Milliseconds(5)))
            .value();
    LayerSaw saw[3] = {};
    ASSERT_TRUE(fixture.RunLayer(first, 0, late, &saw[0]).ok());
    ASSERT_TRUE(fixture.stream->Synchronize().ok());
    EXPECT_EQ(fixture.prefetcher->Finish(first).code(), absl::StatusCode::kDeadlineExceeded);
    const StepTicket second = fixture.prefetcher->Prefetch(step.Request(Soon())).value();
    ASSERT_TRUE(fixture.RunLayer(second, 0, step, &saw[1]).ok());
    ASSERT_TRUE(fixture.RunLayer(second, 1, step, &saw[2]).ok());
    ASSERT_TRUE(fixture.stream->Synchronize().ok());
    const absl::Status status = fixture.prefetcher->Finish(second);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_THAT(saw, ElementsAre(LayerSaw::kGateShut, LayerSaw::kExactRows, LayerSaw::kExactRows));
  }
}

TEST(Prefetcher, ALaterLayersFailureLeavesTheFirstInPlace) {
  PrefetchWay way{.faulty = true, .options = {.max_tokens = kMaxTokens}};
  PrefetchFixture fixture(way, [](uint64_t) {
    return Fate{.error = absl::UnavailableError("the store is gone"), .failing_layer = 1};
  });
  std::mt19937 random(8);
  const SmallStep step = RandomStep(kMaxTokens, random);
  const StepTicket ticket = fixture.prefetcher->Prefetch(step.Request(Soon())).value();
  LayerSaw saw[2] = {};
  for (size_t layer : {0, 1}) ASSERT_TRUE(fixture.RunLayer(ticket, layer, step, &saw[layer]).ok());
  ASSERT_TRUE(fixture.stream->Synchronize().ok());
  EXPECT_THAT(saw, ElementsAre(LayerSaw::kExactRows, LayerSaw::kGateShut));
  const absl::Status status = fixture.prefetcher->Finish(ticket);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), ::testing::HasSubstr("layer 14: the store is gone"));
}

TEST(Prefetcher, AWaitCanBeCapturedOnceASlotAndLaunchedForEveryLaterStep) {
  for (const bool separate : {false, true}) {
    PrefetchWay way{.separate_memory = separate, .options = {.max_tokens = kMaxTokens, .slots = 2}};
    PrefetchFixture fixture(way);
    std::mt19937 random(9);
    std::unique_ptr<Graph> graphs[2];
    SmallStep steps[2];  // what a slot's graph checks its rows against
    LayerSaw saw[2][2] = {};
    for (int i = 0; i < 10; ++i) {
      const uint32_t slot = (i + 1) % 2;
      steps[slot] = RandomStep(kMaxTokens, random);
      const StepTicket ticket = fixture.prefetcher->Prefetch(steps[slot].Request(Soon())).value();
      ASSERT_EQ(ticket.slot, slot);
      if (graphs[slot] == nullptr) {
        ASSERT_TRUE(fixture.stream->BeginCapture().ok());
        for (size_t layer : {0, 1}) {
          ASSERT_TRUE(fixture.RunLayer(ticket, layer, steps[slot], &saw[slot][layer]).ok());
        }
        graphs[slot] = fixture.stream->EndCapture().value();
      }
      std::fill(std::begin(saw[slot]), std::end(saw[slot]), LayerSaw::kNothing);
      ASSERT_TRUE(fixture.stream->Launch(*graphs[slot]).ok());
      ASSERT_TRUE(fixture.stream->Synchronize().ok());
      ASSERT_TRUE(fixture.prefetcher->Finish(ticket).ok());
      EXPECT_THAT(saw[slot], ElementsAre(LayerSaw::kExactRows, LayerSaw::kExactRows)) << i;
    }
  }
}

TEST(Prefetcher, BuffersAreReusedInTurnAtFixedAddresses) {
  PrefetchWay way{.options = {.max_tokens = kMaxTokens, .slots = 3}};
  PrefetchFixture fixture(way);
  std::mt19937 random(10);
  std::vector<const std::byte*> rows;
  for (int i = 0; i < 9; ++i) {
    const StepTicket ticket =
        fixture.prefetcher->Prefetch(RandomStep(kMaxTokens, random).Request(Soon())).value();
    rows.push_back(fixture.prefetcher->Rows(ticket, 14).value().rows);
    ASSERT_TRUE(fixture.prefetcher->Finish(ticket).ok());
    if (i >= 3) {
      EXPECT_EQ(rows[i], rows[i - 3]);
    }
  }
  EXPECT_NE(rows[0], rows[1]);
  EXPECT_NE(rows[1], rows[2]);
}

TEST(Prefetcher, DestroyedItEndsWhatIsUnderWay) {
  PrefetchWay way{.faulty = true, .options = {.max_tokens = kMaxTokens, .slots = 2}};
  PrefetchFixture fixture(way, [](uint64_t) { return Fate{.delay = absl::Hours(1)}; });
  std::mt19937 random(11);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(fixture.prefetcher->Prefetch(RandomStep(kMaxTokens, random).Request(Soon())).ok());
  }
  fixture.prefetcher.reset();  // returns
}

}  // namespace
}  // namespace engram
