// The prefetcher for a rank that reads some of the columns: the right rows, and no others, by every
// way, with everything else that it can do; and what it refuses.
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "client/transport/local/embedded_transport.h"
#include "client/transport/ticketed_transport.h"
#include "gmock/gmock.h"
#include "gpu/prefetch/prefetcher.h"
#include "gpu/testing/prefetch_fixture.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"

namespace engram {
namespace {

using testing::CopyingPlaceRows;
using testing::ExpectExactRows;
using testing::Fate;
using ::testing::HasSubstr;
using testing::LayerSaw;
using testing::NamedSlices;
using testing::PrefetchFixture;
using testing::PrefetchWay;
using testing::RandomStep;
using testing::SmallSlices;
using testing::SmallStep;
using testing::Soon;

constexpr uint32_t kMaxTokens = 40;
constexpr uint32_t kRowBytes = 264;
constexpr int kSteps = 6;

// What travels, and by what way.
struct NamedWay {
  std::string name;
  PrefetchWay way;
};

std::vector<NamedWay> Ways(std::atomic<int>* placed) {
  std::vector<NamedWay> ways;
  for (const bool separate : {false, true}) {
    for (const bool faulty : {false, true}) {
      PrefetchWay way{.separate_memory = separate, .faulty = faulty};
      way.options.max_tokens = kMaxTokens;
      const std::string name =
          std::string(separate ? "two memories" : "one memory") + (faulty ? ", late" : "");
      ways.push_back({name, way});
      // Small: places change hands. Large: all is held in the end.
      for (const uint64_t groups : {16, 4096}) {
        way.options.hot_cache_bytes = groups * 8 * kRowBytes;
        ways.push_back({name + ", hot cache", way});
      }
      way.options.place_rows = CopyingPlaceRows(placed);
      way.options.placed_row_bytes = kRowBytes;
      ways.push_back({name + ", hot cache, placed", way});
      way.options.hot_cache_bytes = 0;
      ways.push_back({name + ", placed", way});
      way.options.distinct = true;
      ways.push_back({name + ", distinct", way});
      if (faulty) continue;  // it maps nothing
      way.options.distinct = false;
      way.options.path = FetchPath::kMapped;
      ways.push_back({name + ", mapped, placed", way});
      way.options.place_rows = {};
      ways.push_back({name + ", mapped", way});
    }
  }
  return ways;
}

// Row ids as a device would have made them: [layers][tokens][slice columns].
struct DeviceIds {
  DeviceIds(PrefetchFixture& fixture, const SmallStep& step) : tokens(step.tokens()) {
    for (size_t layer : {0, 1}) {
      const std::vector<RowId> ids = step.SliceIds(layer, fixture.Slice(layer));
      host.insert(host.end(), ids.begin(), ids.end());
    }
    memory = fixture.device->Allocate(MemoryKind::kDevice, host.size() * sizeof(RowId) + 1).value();
    std::copy(host.begin(), host.end(), memory.as<RowId>());
  }
  Step Request() const {
    return {.device_row_ids = memory.as<RowId>(), .device_tokens = tokens, .deadline = Soon()};
  }
  uint32_t tokens;
  std::vector<RowId> host;
  DeviceBuffer memory;
};

TEST(PrefetcherSlices, RowsAreExactWhicheverWayTheyCome) {
  std::atomic<int> placed{0};
  for (const NamedWay& named : Ways(&placed)) {
    for (const NamedSlices& slices : SmallSlices()) {
      SCOPED_TRACE(::testing::Message() << named.name << ": " << slices.name);
      PrefetchWay way = named.way;
      way.options.slices = slices.slices;
      PrefetchFixture fixture(way);
      std::mt19937 random(3);
      placed = 0;
      for (int i = 0; i < kSteps && !::testing::Test::HasFailure(); ++i) {
        const SmallStep step = RandomStep(kMaxTokens, random);
        ExpectExactRows(fixture, fixture.prefetcher->Prefetch(step.Request(Soon())).value(), step);
        const DeviceIds ids(fixture, step);
        ExpectExactRows(fixture, fixture.prefetcher->Prefetch(ids.Request()).value(), step);
      }
      int layers = 0;
      for (const ColumnSlice& slice : slices.slices) layers += !slice.empty();
      const bool places = way.options.place_rows != nullptr;
      EXPECT_EQ(placed, places ? 2 * kSteps * layers : 0) << "a layer of no columns is not placed";
    }
  }
}

// One look-up a group, whatever the slice has of it; what is held does not travel.
TEST(PrefetcherSlices, AHotCachesGroupsAreTheSlicesColumnsOfEachOrder) {
  const uint64_t groups_a_token[] = {6, 6, 2, 2, 6, 5, 3, 3, 0};
  const std::vector<NamedSlices> all = SmallSlices();
  for (size_t i = 0; i < all.size(); ++i) {
    SCOPED_TRACE(all[i].name);
    PrefetchWay way{.faulty = true};
    way.options = {.max_tokens = kMaxTokens,
                   .slices = all[i].slices,
                   .hot_cache_bytes = uint64_t{4096} * 8 * kRowBytes};
    PrefetchFixture fixture(way);
    std::mt19937 random(4);
    const SmallStep step = RandomStep(kMaxTokens, random);
    for (int round = 0; round < 3; ++round) {
      ExpectExactRows(fixture, fixture.prefetcher->Prefetch(step.Request(Soon())).value(), step);
    }
    const HotCacheCounts counts = fixture.prefetcher->hot_cache();
    EXPECT_EQ(counts.hits + counts.misses, 3 * step.tokens() * groups_a_token[i]);
    EXPECT_LE(counts.misses, step.tokens() * groups_a_token[i]);
    size_t layers = 0;
    for (const ColumnSlice& slice : all[i].slices) layers += !slice.empty();
    EXPECT_EQ(fixture.fault().order().size(), layers) << "only the first round travels";
  }
}

TEST(PrefetcherSlices, BuffersHoldTheSliceAndNoMore) {
  constexpr uint64_t kLayerBytes = uint64_t{kMaxTokens} * 24 * kRowBytes;
  const auto device =
      OpenDevice(DeviceKind::kHost, {.memory_limit_bytes = 2 * 2 * kLayerBytes / 3}).value();
  const auto transport = EmbeddedTransport::Over(testing::SmallV41());
  EXPECT_EQ(Prefetcher::Create(*transport, *device, {.max_tokens = kMaxTokens}).status().code(),
            absl::StatusCode::kResourceExhausted);
  const NamedSlices rank = SmallSlices()[0];  // a quarter
  const auto made =
      Prefetcher::Create(*transport, *device, {.max_tokens = kMaxTokens, .slices = rank.slices});
  EXPECT_TRUE(made.ok()) << made.status();
}

TEST(PrefetcherSlices, GraphsOfEverySlotReadTheSlice) {
  for (const NamedSlices& slices : SmallSlices()) {
    SCOPED_TRACE(slices.name);
    PrefetchWay way{.separate_memory = true};
    way.options = {.max_tokens = kMaxTokens, .slots = 2, .slices = slices.slices};
    PrefetchFixture fixture(way);
    std::mt19937 random(9);
    std::unique_ptr<Graph> graphs[2];
    SmallStep steps[2];
    LayerSaw saw[2][2] = {};
    for (int i = 0; i < kSteps; ++i) {
      const uint32_t slot = (i + 1) % 2;
      steps[slot] = RandomStep(kMaxTokens, random);
      const StepTicket ticket = fixture.prefetcher->Prefetch(steps[slot].Request(Soon())).value();
      if (graphs[slot] == nullptr) {
        ASSERT_TRUE(fixture.stream->BeginCapture().ok());
        for (size_t layer : {0, 1}) {
          ASSERT_TRUE(fixture.RunLayer(ticket, layer, steps[slot], &saw[slot][layer]).ok());
        }
        graphs[slot] = fixture.stream->EndCapture().value();
      }
      for (LayerSaw& one : saw[slot]) one = LayerSaw::kNothing;
      ASSERT_TRUE(fixture.stream->Launch(*graphs[slot]).ok());
      ASSERT_TRUE(fixture.stream->Synchronize().ok());
      ASSERT_TRUE(fixture.prefetcher->Finish(ticket).ok());
      EXPECT_EQ(saw[slot][0], LayerSaw::kExactRows);
      EXPECT_EQ(saw[slot][1], LayerSaw::kExactRows);
    }
  }
}

// Behind a batch that is late, and before ids that the device has not made yet.
TEST(PrefetcherSlices, ALayerOfNoColumnsHasLandedAtOnce) {
  const AddressScheme& scheme = testing::SmallV41()->manifest().scheme;
  const ColumnSlice none = ColumnSlice::Create({}, scheme.Columns()).value();
  const ColumnSlice all = ColumnSlice::All(scheme.Columns());
  for (const size_t empty : {0, 1}) {
    for (const bool on_device : {false, true}) {
      for (const bool faulty : {false, true}) {
        PrefetchWay way{.faulty = faulty};
        way.options.max_tokens = kMaxTokens;
        way.options.slices = {all, all};
        way.options.slices[empty] = none;
        if (!faulty) way.options.path = FetchPath::kMapped;
        if (!faulty && !on_device) continue;  // nothing to be late
        PrefetchFixture fixture(way, [](uint64_t) { return Fate{.delay = absl::Hours(1)}; });
        std::mt19937 random(5);
        const SmallStep step = RandomStep(kMaxTokens, random);
        const DeviceIds ids(fixture, step);
        const DeviceBuffer word = fixture.device->Allocate(MemoryKind::kPinnedHost, 4).value();
        auto* const go = word.as<std::atomic<uint32_t>>();
        const auto addresses = fixture.device->MakeStream("addresses").value();
        const auto ready = fixture.device->MakeEvent().value();
        ASSERT_TRUE(addresses->WaitWord(go, WordTest::kAnyBit, 1).ok());
        ASSERT_TRUE(addresses->Record(*ready).ok());
        Step request = on_device ? ids.Request() : step.Request(Soon());
        if (on_device) request.device_ready = ready.get();
        const StepTicket ticket = fixture.prefetcher->Prefetch(request).value();
        LayerSaw saw = LayerSaw::kNothing;
        ASSERT_TRUE(fixture.RunLayer(ticket, empty, step, &saw).ok());
        ASSERT_TRUE(fixture.stream->Synchronize().ok());  // for ever, did it wait for the others
        EXPECT_EQ(saw, LayerSaw::kExactRows);
        fixture.prefetcher->Cancel(ticket);
        go->store(1);
        fixture.device->WordChanged(*go);
        EXPECT_EQ(fixture.prefetcher->Finish(ticket).code(), absl::StatusCode::kCancelled);
        ASSERT_TRUE(addresses->Synchronize().ok());
      }
    }
  }
}

// Token ids and states are looked at whatever the slice has.
TEST(PrefetcherSlices, WhatIsWrongWithAStepIsFinishsErrorWithAnySlice) {
  for (const NamedSlices& slices : SmallSlices()) {
    for (const bool faulty : {false, true}) {
      SCOPED_TRACE(slices.name);
      PrefetchWay way{.faulty = faulty};
      way.options = {.max_tokens = kMaxTokens, .slices = slices.slices};
      PrefetchFixture fixture(way);
      std::mt19937 random(6);
      SmallStep step = RandomStep(kMaxTokens, random);
      step.dead.clear();
      const int32_t good = step.token_ids.back();
      step.token_ids.back() = 1 << 30;
      StepTicket ticket = fixture.prefetcher->Prefetch(step.Request(Soon())).value();
      absl::Status status = fixture.prefetcher->Finish(ticket);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("1073741824"));
      step.token_ids.back() = good;
      step.sequences.back().state.set = ShortSetId::Of(std::string(64, 'b'));
      ticket = fixture.prefetcher->Prefetch(step.Request(Soon())).value();
      status = fixture.prefetcher->Finish(ticket);
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("bbbbbbbbbbbbbbbb"));
      step.sequences.back().state.set = testing::SmallV41()->addresser().set();
      ExpectExactRows(fixture, fixture.prefetcher->Prefetch(step.Request(Soon())).value(), step);
    }
  }
}

// An id of a column's neighbour is a row of the table: no way takes it for the column's.
TEST(PrefetcherSlices, ADevicesIdOfAnotherColumnIsFinishsError) {
  std::atomic<int> placed{0};
  const LayerAddressing& second = testing::SmallV41()->manifest().scheme.layers[1];
  for (const NamedWay& named : Ways(&placed)) {
    for (const NamedSlices& slices : SmallSlices()) {
      if (slices.slices[1].empty()) continue;
      SCOPED_TRACE(::testing::Message() << named.name << ": " << slices.name);
      PrefetchWay way = named.way;
      way.options.slices = slices.slices;
      PrefetchFixture fixture(way);
      std::mt19937 random(7);
      const SmallStep step = RandomStep(kMaxTokens, random);
      DeviceIds ids(fixture, step);
      const uint32_t columns = slices.slices[1].columns();
      const uint32_t column = slices.slices[1].LayerColumn(columns - 1);
      RowId& last = ids.memory.as<RowId>()[ids.host.size() - 1];
      const RowId wrong[] = {second.offsets[column] - 1, second.offsets[0],
                             second.offsets[column] + second.moduli[column]};
      for (const RowId id : wrong) {
        last = id;
        const StepTicket ticket = fixture.prefetcher->Prefetch(ids.Request()).value();
        LayerSaw saw = LayerSaw::kNothing;
        ASSERT_TRUE(fixture.RunLayer(ticket, 1, step, &saw).ok());
        ASSERT_TRUE(fixture.stream->Synchronize().ok());
        EXPECT_EQ(saw, LayerSaw::kGateShut);
        const absl::Status status = fixture.prefetcher->Finish(ticket);
        EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
        EXPECT_THAT(std::string(status.message()), HasSubstr("row id"));
      }
      last = ids.host.back();
      ExpectExactRows(fixture, fixture.prefetcher->Prefetch(ids.Request()).value(), step);
    }
  }
}

// Maps the rows of column 8 and those behind it alone, as a store does that holds part of a table.
class PartTransport final : public TicketedTransport {
 public:
  PartTransport() : TicketedTransport({}), over_(EmbeddedTransport::Over(testing::SmallV41())) {
    for (size_t i : {0, 1}) {
      GatherTable table = *over_->MappedTable(i);
      table.first_row = table_set().manifest.scheme.layers[i].offsets[8];
      table.base += table.first_row * table.row_bytes;
      table.rows -= table.first_row;
      tables_.push_back(table);
    }
  }
  ~PartTransport() override { ReapAll(); }
  const Capabilities& capabilities() const override { return over_->capabilities(); }
  const AttachedTableSet& table_set() const override { return over_->table_set(); }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }
  const GatherTable* MappedTable(size_t index) const override { return &tables_[index]; }

 private:
  absl::Status Prepare(const BatchRequest&) override { return absl::UnimplementedError("mapped"); }
  const std::unique_ptr<Transport> over_;
  std::vector<GatherTable> tables_;
};

TEST(PrefetcherSlices, ATableThatIsMappedInPartGivesTheRowsItHasAndNoOthers) {
  const auto slice = [](uint32_t first, uint32_t columns) {
    const ColumnRun run{first, columns};
    return ColumnSlice::Create({&run, 1}, 24).value();
  };
  for (const bool separate : {false, true}) {
    PrefetchWay way{.separate_memory = separate};
    way.options = {.max_tokens = kMaxTokens,
                   .slices = {slice(8, 16), slice(9, 3)},
                   .path = FetchPath::kMapped};
    PrefetchFixture fixture(way);
    PartTransport transport;
    fixture.prefetcher = Prefetcher::Create(transport, *fixture.device, way.options).value();
    std::mt19937 random(8);
    const SmallStep step = RandomStep(kMaxTokens, random);
    ExpectExactRows(fixture, fixture.prefetcher->Prefetch(step.Request(Soon())).value(), step);
    const DeviceIds ids(fixture, step);
    ExpectExactRows(fixture, fixture.prefetcher->Prefetch(ids.Request()).value(), step);
    // A column more, whose rows lie right below those that are mapped.
    way.options.slices[1] = slice(7, 2);
    fixture.prefetcher = Prefetcher::Create(transport, *fixture.device, way.options).value();
    const StepTicket ticket = fixture.prefetcher->Prefetch(step.Request(Soon())).value();
    const absl::Status status = fixture.prefetcher->Finish(ticket);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("layer 14: a row id is not among"));
    fixture.prefetcher.reset();
  }
}

TEST(PrefetcherSlices, SlicesThatAreNotTheLayersAreRefused) {
  const auto device = OpenDevice(DeviceKind::kHost, {}).value();
  const auto transport = EmbeddedTransport::Over(testing::SmallV41());
  const ColumnSlice all = ColumnSlice::All(24);
  const auto refused = [&](std::vector<ColumnSlice> slices) {
    const absl::Status status =
        Prefetcher::Create(*transport, *device, {.max_tokens = 8, .slices = slices}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refused({all}), HasSubstr("there are 1 slices, and the table set has 2 layers"));
  EXPECT_THAT(refused({all, all, all}), HasSubstr("there are 3 slices"));
  EXPECT_THAT(refused({all, ColumnSlice::All(16)}),
              HasSubstr("slices[1]: a slice of a layer of 16 columns was given for layer 14"));
  EXPECT_THAT(refused({ColumnSlice(), all}), HasSubstr("slices[0]: a slice of a layer of 0"));
  const std::vector<ColumnRun> runs = {{0, 2}};
  EXPECT_THAT(refused({ColumnSlice::Create(runs, 24, 14).value(), all}),
              HasSubstr("slices[0]: a slice of layer 14 was given for layer 1"));
}

TEST(PrefetcherSlices, MoreTokensFitWhereTheSliceIsSmall) {
  const auto device = OpenDevice(DeviceKind::kHost, {.memory_limit_bytes = 1}).value();
  const auto transport = EmbeddedTransport::Over(testing::SmallV41());
  const uint32_t most = ((uint64_t{1} << 31) - 1) / (24 * kRowBytes);
  const auto created = [&](uint32_t max_tokens, std::vector<ColumnSlice> slices) {
    return Prefetcher::Create(*transport, *device, {.max_tokens = max_tokens, .slices = slices})
        .status()
        .code();
  };
  const std::vector<ColumnSlice> rank = SmallSlices()[0].slices;
  EXPECT_EQ(created(most + 1, {}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(created(4 * most, rank), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(created(4 * most + 4, rank), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace engram
