// What the prefetcher refuses, and what it says.
#include <atomic>
#include <vector>

#include "gmock/gmock.h"
#include "gpu/prefetch/prefetcher.h"
#include "gpu/testing/prefetch_fixture.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"

namespace engram {
namespace {

using testing::CopyingPlaceRows;
using testing::Fate;
using ::testing::HasSubstr;
using testing::LayerSaw;
using testing::PrefetchFixture;
using testing::PrefetchWay;
using testing::RandomStep;
using testing::SmallStep;
using testing::Soon;

constexpr uint32_t kMaxTokens = 64;

void ExpectStatus(const absl::Status& status, absl::StatusCode code, const std::string& says) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(says));
}

PrefetchWay Plain(uint32_t slots = 2) {
  PrefetchWay way;
  way.options = {.max_tokens = kMaxTokens, .slots = slots};
  return way;
}

class PrefetcherRefusals : public ::testing::Test {
 protected:
  SmallStep step_ = [] {
    std::mt19937 random(1);
    return RandomStep(kMaxTokens, random);
  }();
};

TEST_F(PrefetcherRefusals, ABatchOverTheBuffersSize) {
  PrefetchFixture fixture(Plain());
  const std::vector<int32_t> ids(kMaxTokens + 1, 5);
  const SequenceTokens sequence{.state = Addresser::Start(), .tokens = kMaxTokens + 1};
  ExpectStatus(fixture.prefetcher
                   ->Prefetch({.sequences = {&sequence, 1}, .token_ids = ids, .deadline = Soon()})
                   .status(),
               absl::StatusCode::kInvalidArgument, "65 tokens, the buffers hold 64");
}

TEST_F(PrefetcherRefusals, AStepThatContradictsItself) {
  PrefetchFixture fixture(Plain());
  const auto refused = [&](const Step& step, const std::string& says) {
    ExpectStatus(fixture.prefetcher->Prefetch(step).status(), absl::StatusCode::kInvalidArgument,
                 says);
  };
  refused({.deadline = Soon()}, "at least one token");
  Step step = step_.Request(Soon());
  step.sequences = step.sequences.subspan(1);
  refused(step, "the sequences have");
  step = step_.Request(Soon());
  const std::vector<uint8_t> dead(step_.tokens() + 3);
  step.dead = dead;
  refused(step, "the dead mask has");
  step = step_.Request(Soon());
  RowId id = 0;
  step.device_row_ids = &id;
  refused(step, "not both");
  refused(step_.Request(MonotonicTime::Infinite()), "needs a deadline");
  step = step_.Request(Soon());
  step.deadline = Step().deadline;
  refused(step, "needs a deadline");
}

TEST_F(PrefetcherRefusals, ATokenIdThatIsOutOfRangeIsFinishsError) {
  PrefetchFixture fixture(Plain());
  step_.token_ids[step_.tokens() - 1] = 1 << 30;
  step_.dead.clear();
  const StepTicket ticket = fixture.prefetcher->Prefetch(step_.Request(Soon())).value();
  LayerSaw saw = LayerSaw::kNothing;
  ASSERT_TRUE(fixture.RunLayer(ticket, 0, step_, &saw).ok());
  ASSERT_TRUE(fixture.stream->Synchronize().ok());
  EXPECT_EQ(saw, LayerSaw::kGateShut);
  ExpectStatus(fixture.prefetcher->Finish(ticket), absl::StatusCode::kInvalidArgument,
               "1073741824");
}

TEST_F(PrefetcherRefusals, ARowIdOfTheDevicesThatIsOutOfRangeIsFinishsError) {
  for (const FetchPath path : {FetchPath::kTransport, FetchPath::kMapped}) {
    PrefetchWay way = Plain();
    way.options.path = path;
    PrefetchFixture fixture(way);
    const uint32_t columns = testing::SmallV41()->manifest().scheme.Columns();
    const DeviceBuffer ids =
        fixture.device->Allocate(MemoryKind::kDevice, sizeof(RowId) * 2 * columns).value();
    ids.as<RowId>()[columns + 3] = RowId{1} << 50;
    const StepTicket ticket =
        fixture.prefetcher
            ->Prefetch({.device_row_ids = ids.as<RowId>(), .device_tokens = 1, .deadline = Soon()})
            .value();
    ExpectStatus(fixture.prefetcher->Finish(ticket), absl::StatusCode::kInvalidArgument, "row id");
  }
}

TEST_F(PrefetcherRefusals, ALayerThatIsNotConfigured) {
  PrefetchFixture fixture(Plain());
  const StepTicket ticket = fixture.prefetcher->Prefetch(step_.Request(Soon())).value();
  ExpectStatus(fixture.prefetcher->Wait(ticket, 2, *fixture.stream),
               absl::StatusCode::kInvalidArgument, "layer 2 has no table: the set's are 1, 14");
  ExpectStatus(fixture.prefetcher->Rows(ticket, 2).status(), absl::StatusCode::kInvalidArgument,
               "layer 2");
}

TEST_F(PrefetcherRefusals, WaitBeforePrefetchTwiceOrAfterFinish) {
  PrefetchFixture fixture(Plain());
  ExpectStatus(fixture.prefetcher->Wait({}, 1, *fixture.stream),
               absl::StatusCode::kFailedPrecondition, "was not prefetched");
  ExpectStatus(fixture.prefetcher->Wait({.step = 1, .slot = 1}, 1, *fixture.stream),
               absl::StatusCode::kFailedPrecondition, "was not prefetched");
  const StepTicket ticket = fixture.prefetcher->Prefetch(step_.Request(Soon())).value();
  EXPECT_TRUE(fixture.prefetcher->Wait(ticket, 1, *fixture.stream).ok());
  ExpectStatus(fixture.prefetcher->Wait(ticket, 1, *fixture.stream),
               absl::StatusCode::kFailedPrecondition, "waited for already");
  EXPECT_TRUE(fixture.prefetcher->Finish(ticket).ok());
  ExpectStatus(fixture.prefetcher->Wait(ticket, 14, *fixture.stream),
               absl::StatusCode::kFailedPrecondition, "finished");
  ExpectStatus(fixture.prefetcher->Finish(ticket), absl::StatusCode::kFailedPrecondition,
               "finished");
}

TEST_F(PrefetcherRefusals, ATicketThatWasCancelled) {
  PrefetchWay way = Plain();
  way.faulty = true;
  PrefetchFixture fixture(way, [](uint64_t) { return Fate{.delay = absl::Hours(1)}; });
  const StepTicket ticket = fixture.prefetcher->Prefetch(step_.Request(Soon())).value();
  LayerSaw saw = LayerSaw::kNothing;
  ASSERT_TRUE(fixture.RunLayer(ticket, 0, step_, &saw).ok());
  fixture.prefetcher->Cancel(ticket);
  ASSERT_TRUE(fixture.stream->Synchronize().ok()) << "the stream that waited goes on";
  EXPECT_EQ(saw, LayerSaw::kGateShut);
  ExpectStatus(fixture.prefetcher->Wait(ticket, 14, *fixture.stream), absl::StatusCode::kCancelled,
               "was cancelled");
  ExpectStatus(fixture.prefetcher->Finish(ticket), absl::StatusCode::kCancelled, "was cancelled");
  fixture.prefetcher->Cancel(ticket);  // no effect
}

TEST_F(PrefetcherRefusals, AStepWhoseBuffersAreTaken) {
  PrefetchFixture fixture(Plain(/*slots=*/1));
  const StepTicket ticket = fixture.prefetcher->Prefetch(step_.Request(Soon())).value();
  ExpectStatus(fixture.prefetcher->Prefetch(step_.Request(Soon())).status(),
               absl::StatusCode::kFailedPrecondition, "Finish it first");
  EXPECT_TRUE(fixture.prefetcher->Finish(ticket).ok());
  const StepTicket next = fixture.prefetcher->Prefetch(step_.Request(Soon())).value();
  EXPECT_TRUE(fixture.prefetcher->Finish(next).ok());
}

TEST_F(PrefetcherRefusals, AStoreThatRefusesOrIsGone) {
  PrefetchWay way = Plain();
  way.faulty = true;
  PrefetchFixture fixture(way, [](uint64_t batch) {
    const absl::Status gone = absl::UnavailableError("the store is gone");
    return batch == 0 ? Fate{.submit = gone} : Fate{.delay = absl::Milliseconds(5), .error = gone};
  });
  for (int i = 0; i < 2; ++i) {
    const StepTicket ticket = fixture.prefetcher->Prefetch(step_.Request(Soon())).value();
    LayerSaw saw[2] = {};
    for (size_t layer : {0, 1}) {
      ASSERT_TRUE(fixture.RunLayer(ticket, layer, step_, &saw[layer]).ok());
    }
    ASSERT_TRUE(fixture.stream->Synchronize().ok());
    EXPECT_EQ(saw[0], LayerSaw::kGateShut);
    EXPECT_EQ(saw[1], LayerSaw::kGateShut);
    ExpectStatus(fixture.prefetcher->Finish(ticket), absl::StatusCode::kUnavailable,
                 "layer 1: the store is gone");
  }
}

TEST_F(PrefetcherRefusals, ADeadlineThatHasPassed) {
  PrefetchFixture fixture(Plain());
  const StepTicket ticket =
      fixture.prefetcher->Prefetch(step_.Request(RealClock().Now() - absl::Seconds(1))).value();
  ExpectStatus(fixture.prefetcher->Finish(ticket), absl::StatusCode::kDeadlineExceeded, "deadline");
}

TEST_F(PrefetcherRefusals, RowsThatCannotBePlaced) {
  PrefetchWay way = Plain();
  way.options.placed_row_bytes = 264;
  way.options.place_rows = [](const Arrival&, Stream&) {
    return absl::InternalError("the kernel cannot be launched");
  };
  PrefetchFixture fixture(way);
  const StepTicket ticket = fixture.prefetcher->Prefetch(step_.Request(Soon())).value();
  ExpectStatus(fixture.prefetcher->Finish(ticket), absl::StatusCode::kInternal,
               "the kernel cannot be launched");
}

TEST_F(PrefetcherRefusals, OptionsThatCannotBe) {
  const auto device = OpenDevice(DeviceKind::kHost, {}).value();
  const auto transport = EmbeddedTransport::Over(testing::SmallV41());
  std::atomic<int> calls{0};
  const auto refused = [&](const PrefetcherOptions& options, const std::string& says) {
    ExpectStatus(Prefetcher::Create(*transport, *device, options).status(),
                 absl::StatusCode::kInvalidArgument, says);
  };
  refused({}, "max_tokens is 0");
  refused({.max_tokens = 1 << 30}, "max_tokens is 1073741824");
  refused({.max_tokens = 8, .slots = 0}, "slots is 0");
  refused({.max_tokens = 8, .slots = 17}, "slots is 17");
  refused({.max_tokens = 8, .distinct = true}, "distinct needs place_rows");
  refused({.max_tokens = 8, .place_rows = CopyingPlaceRows(&calls)}, "placed_row_bytes");
  refused({.max_tokens = 8,
           .path = FetchPath::kMapped,
           .distinct = true,
           .place_rows = CopyingPlaceRows(&calls),
           .placed_row_bytes = 264},
          "distinct is for transports");
}

TEST_F(PrefetcherRefusals, MappedRowsOverATransportThatMapsNone) {
  const auto device = OpenDevice(DeviceKind::kHost, {}).value();
  testing::FaultTransport transport(EmbeddedTransport::Over(testing::SmallV41()),
                                    [](uint64_t) { return Fate{}; });
  ExpectStatus(Prefetcher::Create(transport, *device, {.max_tokens = 8, .path = FetchPath::kMapped})
                   .status(),
               absl::StatusCode::kFailedPrecondition, "fault maps no tables");
}

TEST_F(PrefetcherRefusals, DeviceMemoryThatIsExhausted) {
  const auto device = OpenDevice(DeviceKind::kHost, {.memory_limit_bytes = 1000000}).value();
  const auto transport = EmbeddedTransport::Over(testing::SmallV41());
  ExpectStatus(Prefetcher::Create(*transport, *device, {.max_tokens = 512}).status(),
               absl::StatusCode::kResourceExhausted, "bytes of device memory are not to be had");
  EXPECT_TRUE(Prefetcher::Create(*transport, *device, {.max_tokens = 16}).ok());
}

}  // namespace
}  // namespace engram
