// For tests of the prefetcher: a device, a transport, a compute stream, and a layer that checks
// every row it reads.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "client/transport/local/embedded_transport.h"
#include "client/transport/testing/fault_transport.h"
#include "gpu/device/device.h"
#include "gpu/prefetch/prefetcher.h"
#include "gpu/testing/small_steps.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"

namespace engram::testing {

inline MonotonicTime Soon() { return RealClock().Now() + absl::Seconds(60); }

// What a layer found when it ran.
enum class LayerSaw { kNothing, kExactRows, kWrongRows, kGateShut };

// A way of having rows that a test goes through.
struct PrefetchWay {
  bool separate_memory = false;
  bool faulty = false;  // over a FaultTransport, which lands asynchronously
  PrefetcherOptions options = {};
};

class PrefetchFixture {
 public:
  explicit PrefetchFixture(const PrefetchWay& way, std::function<Fate(uint64_t)> fate = {})
      : slices(way.options.slices),
        device(OpenDevice(DeviceKind::kHost, {.separate_memory = way.separate_memory}).value()),
        transport(EmbeddedTransport::Over(SmallV41())) {
    if (way.faulty) {
      if (!fate) fate = [](uint64_t) { return Fate{}; };
      transport = std::make_unique<FaultTransport>(std::move(transport), std::move(fate));
    }
    stream = device->MakeStream("compute").value();
    prefetcher = Prefetcher::Create(*transport, *device, way.options).value();
  }
  ~PrefetchFixture() {
    stream->Synchronize().IgnoreError();
    prefetcher.reset();
  }

  FaultTransport& fault() { return static_cast<FaultTransport&>(*transport); }
  static uint32_t LayerNumber(size_t index) { return SmallV41()->manifest().layers[index].layer; }

  // Waits on the compute stream and enqueues the layer, which says in *saw what it read.
  absl::Status RunLayer(const StepTicket& ticket, size_t index, const SmallStep& step,
                        LayerSaw* saw) {
    absl::Status status = prefetcher->Wait(ticket, LayerNumber(index), *stream);
    return status.ok() ? EnqueueLayer(ticket, index, step, saw) : status;
  }
  absl::Status EnqueueLayer(const StepTicket& ticket, size_t index, const SmallStep& step,
                            LayerSaw* saw) {
    const PlacedRows rows = prefetcher->Rows(ticket, LayerNumber(index)).value();
    return stream->LaunchOnHost([rows, index, slice = Slice(index), &step, saw] {
      *saw = !GateMayOpen(*rows.status)                   ? LayerSaw::kGateShut
             : step.RowsAreExact(index, rows.rows, slice) ? LayerSaw::kExactRows
                                                          : LayerSaw::kWrongRows;
    });
  }

  // Null: all columns.
  const ColumnSlice* Slice(size_t index) const { return slices.empty() ? nullptr : &slices[index]; }

  const std::vector<ColumnSlice> slices;  // as the prefetcher's
  std::unique_ptr<Device> device;
  std::unique_ptr<Transport> transport;
  std::unique_ptr<Stream> stream;
  std::unique_ptr<Prefetcher> prefetcher;
};

// Runs and finishes a step that was prefetched; each layer sees the rows of its columns, exactly.
inline void ExpectExactRows(PrefetchFixture& fixture, const StepTicket& ticket,
                            const SmallStep& step) {
  LayerSaw saw[2] = {};
  for (size_t layer : {0, 1}) {
    ASSERT_TRUE(fixture.RunLayer(ticket, layer, step, &saw[layer]).ok());
  }
  ASSERT_TRUE(fixture.stream->Synchronize().ok());
  const absl::Status status = fixture.prefetcher->Finish(ticket);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(saw[0], LayerSaw::kExactRows);
  EXPECT_EQ(saw[1], LayerSaw::kExactRows);
}

// A PlaceRows that copies rows to their places, as a dequantising kernel would, and counts how
// often it was called.
inline PlaceRows CopyingPlaceRows(std::atomic<int>* calls) {
  return [calls](const Arrival& arrival, Stream& side) {
    ++*calls;
    return side.LaunchOnHost([arrival] {
      for (uint32_t i = 0; i < arrival.tokens * arrival.columns; ++i) {
        const uint32_t from = arrival.inverse != nullptr ? arrival.inverse[i] : i;
        std::copy_n(arrival.rows + uint64_t{from} * arrival.row_bytes, arrival.row_bytes,
                    arrival.placed + uint64_t{i} * arrival.row_bytes);
      }
    });
  };
}

}  // namespace engram::testing
