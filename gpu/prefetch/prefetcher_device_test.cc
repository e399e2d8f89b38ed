// The prefetcher on every device there is: what its streams see of rows, words and graphs, with
// nothing but copies for a layer. The host backend's own tests go further (prefetcher_test.cc).
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "client/transport/local/embedded_transport.h"
#include "client/transport/testing/fault_transport.h"
#include "gpu/device/device.h"
#include "gpu/prefetch/dequantize_on_arrival.h"
#include "gpu/prefetch/prefetcher.h"
#include "gpu/testing/dequantized_rows.h"
#include "gpu/testing/prefetch_fixture.h"
#include "gpu/testing/small_steps.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using testing::DequantizedRows;
using testing::Fate;
using testing::FaultTransport;
using testing::NamedSlices;
using testing::PrefetchFixture;
using testing::RandomStep;
using testing::SmallSlices;
using testing::SmallStep;
using testing::SmallV41;
using testing::Soon;

constexpr uint32_t kMaxTokens = 48;
constexpr uint32_t kSlots = 2;
constexpr int kSteps = 40;

class PrefetcherDeviceTest : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Device>> device = OpenDevice(GetParam(), {});
    if (!device.ok()) GTEST_SKIP() << device.status().message();
    device_ = *std::move(device);
    stream_ = device_->MakeStream("compute").value();
    transport_ = EmbeddedTransport::Over(SmallV41());
  }
  void Make(PrefetcherOptions options) {
    options.max_tokens = kMaxTokens;
    options.slots = kSlots;
    slices_ = options.slices;
    auto made = Prefetcher::Create(*transport_, *device_, options);
    ASSERT_TRUE(made.ok()) << made.status();
    prefetcher_ = *std::move(made);
    const size_t bytes = uint64_t{kMaxTokens} * SmallV41()->manifest().scheme.Columns() * 512;
    for (Read& read : reads_) {
      read.rows = device_->Allocate(MemoryKind::kPinnedHost, bytes).value();
      read.word = device_->Allocate(MemoryKind::kPinnedHost, sizeof(uint32_t)).value();
    }
  }
  void TearDown() override {
    if (stream_ != nullptr) stream_->Synchronize().IgnoreError();
    prefetcher_.reset();
  }

  // What a layer's stream reads: the word that the layer's kernel looks at, and the rows.
  struct Read {
    DeviceBuffer rows, word;
  };
  void EnqueueRead(const StepTicket& ticket, size_t layer, Stream& stream) {
    const uint32_t number = PrefetchFixture::LayerNumber(layer);
    ASSERT_TRUE(prefetcher_->Wait(ticket, number, stream).ok());
    const PlacedRows rows = prefetcher_->Rows(ticket, number).value();
    const ColumnSlice* const slice = Slice(layer);
    const uint32_t columns =
        slice == nullptr ? SmallV41()->manifest().scheme.Columns() : slice->columns();
    const size_t bytes = uint64_t{kMaxTokens} * columns * rows.row_bytes;
    ASSERT_TRUE(stream.Copy(reads_[layer].word.data(), rows.status, sizeof(uint32_t)).ok());
    if (bytes == 0) return;
    ASSERT_TRUE(stream.Copy(reads_[layer].rows.data(), rows.rows, bytes).ok());
  }
  const ColumnSlice* Slice(size_t layer) const {
    return slices_.empty() ? nullptr : &slices_[layer];
  }
  bool GateOpen(size_t layer) const { return GateMayOpen(*reads_[layer].word.as<uint32_t>()); }
  // Reads both layers of a step that was prefetched; what Finish says.
  absl::Status ReadAndFinish(const StepTicket& ticket) {
    for (size_t layer : {0, 1}) EnqueueRead(ticket, layer, *stream_);
    EXPECT_TRUE(stream_->Synchronize().ok());
    return prefetcher_->Finish(ticket);
  }
  absl::Status RunStep(const SmallStep& step) {
    return ReadAndFinish(prefetcher_->Prefetch(step.Request(Soon())).value());
  }
  void ExpectExactSteps() {
    std::mt19937 random(3);
    for (int i = 0; i < kSteps && !HasFailure(); ++i) {
      const SmallStep step = RandomStep(kMaxTokens, random);
      const absl::Status status = RunStep(step);
      ASSERT_TRUE(status.ok()) << status;
      ExpectExact(step);
    }
  }
  void ExpectExactStepsOfDeviceIds() {
    const auto addresses = device_->MakeStream("addresses").value();
    const auto ready = device_->MakeEvent().value();
    std::mt19937 random(4);
    for (int i = 0; i < kSteps && !HasFailure(); ++i) {
      const SmallStep step = RandomStep(kMaxTokens, random);
      std::vector<RowId> made;
      for (size_t layer : {0, 1}) {
        const std::vector<RowId> ids = step.SliceIds(layer, Slice(layer));
        made.insert(made.end(), ids.begin(), ids.end());
      }
      const size_t bytes = made.size() * sizeof(RowId);
      const DeviceBuffer ids = device_->Allocate(MemoryKind::kDevice, bytes + 1).value();
      ASSERT_TRUE(addresses->Copy(ids.data(), made.data(), bytes).ok());
      ASSERT_TRUE(addresses->Record(*ready).ok());
      const StepTicket ticket = prefetcher_
                                    ->Prefetch({.device_row_ids = ids.as<RowId>(),
                                                .device_tokens = step.tokens(),
                                                .device_ready = ready.get(),
                                                .deadline = Soon()})
                                    .value();
      const absl::Status status = ReadAndFinish(ticket);
      ASSERT_TRUE(status.ok()) << status;
      ExpectExact(step);
    }
  }
  void ExpectExact(const SmallStep& step) {
    for (size_t layer : {0, 1}) {
      EXPECT_TRUE(GateOpen(layer));
      EXPECT_TRUE(step.RowsAreExact(layer, reads_[layer].rows.data(), Slice(layer)))
          << "layer " << layer;
    }
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Prefetcher> prefetcher_;
  std::vector<ColumnSlice> slices_;  // the prefetcher's
  Read reads_[2];
};

TEST_P(PrefetcherDeviceTest, RowsOverATransport) {
  Make({});
  ExpectExactSteps();
}

TEST_P(PrefetcherDeviceTest, RowsThatLandAsynchronously) {
  transport_ =
      std::make_unique<FaultTransport>(std::move(transport_), [](uint64_t) { return Fate{}; });
  Make({});
  ExpectExactSteps();
}

TEST_P(PrefetcherDeviceTest, RowsGatheredInPlace) {
  Make({.path = FetchPath::kMapped});
  ExpectExactSteps();
}

TEST_P(PrefetcherDeviceTest, RowsOfAHotCache) {
  Make({.hot_cache_bytes =
            uint64_t{100} * 8 * 264});  // smaller than the steps' rows: places change hands
  ExpectExactSteps();
  EXPECT_GT(prefetcher_->hot_cache().misses, 0u);
}

TEST_P(PrefetcherDeviceTest, RowsOfSlices) {
  for (const NamedSlices& named : SmallSlices()) {
    SCOPED_TRACE(named.name);
    Make({.slices = named.slices});
    ExpectExactSteps();
    Make({.slices = named.slices, .path = FetchPath::kMapped});
    ExpectExactSteps();
    // Smaller than the steps' rows: places change hands.
    Make({.slices = named.slices, .hot_cache_bytes = uint64_t{100} * 8 * 264});
    ExpectExactSteps();
  }
}

TEST_P(PrefetcherDeviceTest, RowIdsThatAreOnTheDevice) {
  for (const FetchPath path : {FetchPath::kTransport, FetchPath::kMapped}) {
    Make({.path = path});
    ExpectExactStepsOfDeviceIds();
    for (const NamedSlices& named : SmallSlices()) {
      SCOPED_TRACE(named.name);
      Make({.slices = named.slices, .path = path});
      ExpectExactStepsOfDeviceIds();
    }
  }
}
TEST_P(PrefetcherDeviceTest, ValuesOfRowsThatTravelOnce) {
  const RowPlacing placing = DequantizeOnArrival(SmallV41()->manifest(), *device_).value();
  Make({.distinct = true,
        .place_rows = placing.place_rows,
        .placed_row_bytes = placing.placed_row_bytes});
  std::mt19937 random(5);
  for (int i = 0; i < kSteps && !HasFailure(); ++i) {
    const SmallStep step = RandomStep(kMaxTokens, random);
    const absl::Status status = RunStep(step);
    ASSERT_TRUE(status.ok()) << status;
    for (size_t layer : {0, 1}) {
      const std::vector<uint16_t> expected = DequantizedRows(step, layer);
      EXPECT_EQ(std::memcmp(reads_[layer].rows.data(), expected.data(), expected.size() * 2), 0);
    }
  }
}

TEST_P(PrefetcherDeviceTest, AGraphOfEachSlotServesEveryLaterStep) {
  Make({});
  std::unique_ptr<Graph> graphs[kSlots];
  std::mt19937 random(6);
  for (int i = 0; i < kSteps && !HasFailure(); ++i) {
    const SmallStep step = RandomStep(kMaxTokens, random);
    const StepTicket ticket = prefetcher_->Prefetch(step.Request(Soon())).value();
    std::unique_ptr<Graph>& graph = graphs[ticket.step % kSlots];
    if (graph == nullptr) {
      ASSERT_TRUE(stream_->BeginCapture().ok());
      for (size_t layer : {0, 1}) EnqueueRead(ticket, layer, *stream_);
      graph = stream_->EndCapture().value();
    }
    ASSERT_TRUE(stream_->Launch(*graph).ok());
    ASSERT_TRUE(stream_->Synchronize().ok());
    ASSERT_TRUE(prefetcher_->Finish(ticket).ok());
    ExpectExact(step);
  }
}

TEST_P(PrefetcherDeviceTest, AFailedStepShutsTheGateAndTheStreamGoesOn) {
  transport_ = std::make_unique<FaultTransport>(std::move(transport_), [](uint64_t batch) {
    return batch % 2 == 0 ? Fate{.error = absl::UnavailableError("the store is gone")} : Fate{};
  });
  Make({});
  std::mt19937 random(7);
  for (int i = 0; i < kSteps && !HasFailure(); ++i) {
    const SmallStep step = RandomStep(kMaxTokens, random);
    if (RunStep(step).ok()) {
      ExpectExact(step);
    } else {
      EXPECT_EQ(i % 2, 0);
      EXPECT_FALSE(GateOpen(0));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, PrefetcherDeviceTest,
                         ::testing::Values(DeviceKind::kHost, DeviceKind::kCuda),
                         [](const auto& tested) {
                           return tested.param == DeviceKind::kHost ? "Host" : "Cuda";
                         });

}  // namespace
}  // namespace engram
