#include "gpu/simulator/ways.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>

#include "gpu/kernels/dequantize.h"
#include "gpu/kernels/device_addresser.h"
#include "gpu/kernels/mapped_gather.h"
#include "gpu/prefetch/dequantize_on_arrival.h"
#include "memstore/base/clock.h"

namespace engram::simulator {
namespace {

constexpr absl::Duration kStepTime = absl::Seconds(10);  // no step takes as long

class Prefetched final : public Way {
 public:
  explicit Prefetched(std::unique_ptr<Prefetcher> prefetcher)
      : prefetcher_(std::move(prefetcher)) {}

  absl::Status Begin(const TrafficStep& step) override {
    const absl::StatusOr<StepTicket> ticket =
        prefetcher_->Prefetch({.sequences = step.sequences,
                               .token_ids = step.token_ids,
                               .deadline = RealClock().Now() + kStepTime});
    if (ticket.ok()) begun_.push_back(*ticket);
    return ticket.status();
  }
  absl::StatusOr<const std::byte*> Enter(const TrafficStep&, uint32_t layer,
                                         Stream& stream) override {
    if (absl::Status status = prefetcher_->Wait(begun_.front(), layer, stream); !status.ok())
      return status;
    const absl::StatusOr<PlacedRows> rows = prefetcher_->Rows(begun_.front(), layer);
    if (!rows.ok()) return rows.status();
    return rows->rows;
  }
  absl::Status End() override {
    const StepTicket ticket = begun_.front();
    begun_.pop_front();
    return prefetcher_->Finish(ticket);
  }
  HotCacheCounts hot_cache() const override { return prefetcher_->hot_cache(); }

 private:
  const std::unique_ptr<Prefetcher> prefetcher_;
  std::deque<StepTicket> begun_;
};

class Resident final : public Way {
 public:
  Resident(Client& client, Device& device, std::unique_ptr<DeviceAddresser> addresser)
      : client_(client), device_(device), addresser_(std::move(addresser)) {}

  absl::Status Allocate(uint32_t max_tokens, uint32_t max_sequences) {
    uint64_t most = 0, most_values = 0;
    for (const LayerTableSpec& layer : client_.table_set().layers) {
      most = std::max<uint64_t>(most, layer.row_bytes);
      most_values = std::max<uint64_t>(most_values, layer.encoding.dim);
    }
    const uint64_t rows = uint64_t{max_tokens} * client_.table_set().scheme.Columns();
    struct {
      DeviceBuffer* buffer;
      MemoryKind kind;
      uint64_t bytes;
    } const wanted[] = {
        {&ids_, MemoryKind::kPinnedHost, uint64_t{max_tokens} * sizeof(int32_t)},
        {&starts_, MemoryKind::kPinnedHost, (uint64_t{max_sequences} + 1) * sizeof(uint32_t)},
        {&lookback_, MemoryKind::kPinnedHost,
         uint64_t{max_sequences} * addresser_->lookback() * sizeof(uint32_t)},
        {&row_ids_, MemoryKind::kDevice, addresser_->RowIds(max_tokens) * sizeof(RowId)},
        {&words_, MemoryKind::kPinnedHost, 2 * sizeof(uint64_t)},
        {&rows_, MemoryKind::kDevice, rows * most},
        {&placed_, MemoryKind::kDevice, rows * most_values * sizeof(uint16_t)}};
    for (const auto& one : wanted) {
      absl::StatusOr<DeviceBuffer> memory = device_.Allocate(one.kind, one.bytes);
      if (!memory.ok()) return memory.status();
      *one.buffer = *std::move(memory);
    }
    return BringTables();
  }

  absl::Status Begin(const TrafficStep&) override { return absl::OkStatus(); }

  absl::StatusOr<const std::byte*> Enter(const TrafficStep& step, uint32_t layer,
                                         Stream& stream) override {
    const Manifest& manifest = client_.table_set();
    const auto tokens = static_cast<uint32_t>(step.token_ids.size());
    const bool is_first = manifest.layers.front().layer == layer;
    if (is_first) {
      if (absl::Status status = Address(step, stream); !status.ok()) return status;
    }
    size_t index = 0;
    while (manifest.layers[index].layer != layer) ++index;
    const uint32_t count = tokens * manifest.scheme.Columns();
    absl::Status status =
        EnqueueMappedGather({.table = layers_[index].table,
                             .ids = row_ids_.as<RowId>() + index * count,
                             .count = count,
                             .rows = rows_.data(),
                             .bad_ids = reinterpret_cast<uint32_t*>(words_.as<uint64_t>() + 1)},
                            device_.multiprocessors(), stream);
    const std::optional<Dequantizer>& dequantizer = layers_[index].dequantizer;
    if (!status.ok()) return status;
    if (!dequantizer) return rows_.data();
    status = dequantizer->Enqueue({.rows = rows_.data(),
                                   .row_count = count,
                                   .tokens = tokens,
                                   .columns = manifest.scheme.Columns(),
                                   .out = placed_.as<uint16_t>()},
                                  stream);
    if (!status.ok()) return status;
    return placed_.data();
  }
  absl::Status End() override { return addresser_->StatusOf(*words_.as<uint64_t>()); }

 private:
  struct Layer {
    GatherTable table;    // as the device sees it
    DeviceBuffer memory;  // of the table, where the device does not read the client's
    std::optional<Dequantizer> dequantizer;  // rows that are not bf16
  };

  absl::Status BringTables() {
    absl::StatusOr<std::unique_ptr<Stream>> stream = device_.MakeStream("tables");
    if (!stream.ok()) return stream.status();
    const std::vector<LayerTableSpec>& specs = client_.table_set().layers;
    for (size_t i = 0; i < specs.size(); ++i) {
      Layer layer;
      layer.table = *client_.transport().MappedTable(i);
      if (!device_.host_writes_device_memory()) {
        const uint64_t bytes = layer.table.rows * layer.table.row_bytes;
        absl::StatusOr<DeviceBuffer> memory = device_.Allocate(MemoryKind::kDevice, bytes);
        if (!memory.ok()) return memory.status();
        absl::Status status = (*stream)->Copy(memory->data(), layer.table.base, bytes);
        absl::Status copied = (*stream)->Synchronize();
        if (!status.ok() || !copied.ok()) return status.ok() ? copied : status;
        layer.memory = *std::move(memory);
        layer.table = {.base = layer.memory.data(),
                       .rows = layer.table.rows,
                       .row_bytes = layer.table.row_bytes,
                       .first_row = layer.table.first_row};
      }
      if (specs[i].encoding.kind != RowEncodingKind::kBf16) {
        absl::StatusOr<Dequantizer> made = Dequantizer::Create(specs[i].encoding);
        if (!made.ok()) return made.status();
        layer.dequantizer = *std::move(made);
      }
      layers_.push_back(std::move(layer));
    }
    return absl::OkStatus();
  }

  absl::Status Address(const TrafficStep& step, Stream& stream) {
    std::memcpy(ids_.data(), step.token_ids.data(), step.token_ids.size() * sizeof(int32_t));
    auto* const starts = starts_.as<uint32_t>();
    for (size_t s = 0; s < step.sequences.size(); ++s) {
      starts[s + 1] = starts[s] + step.sequences[s].tokens;
      absl::Status status = addresser_->WriteLookback(
          step.sequences[s].state, lookback_.as<uint32_t>() + s * addresser_->lookback());
      if (!status.ok()) return status;
    }
    return addresser_->EnqueueAddress({.token_ids = ids_.as<int32_t>(),
                                       .starts = starts,
                                       .lookback = lookback_.as<uint32_t>(),
                                       .sequences = static_cast<uint32_t>(step.sequences.size()),
                                       .tokens = static_cast<uint32_t>(step.token_ids.size())},
                                      row_ids_.as<RowId>(), words_.as<uint64_t>(), stream);
  }

  Client& client_;
  Device& device_;
  const std::unique_ptr<DeviceAddresser> addresser_;
  std::vector<Layer> layers_;  // in the table set's order
  DeviceBuffer ids_, starts_, lookback_, row_ids_, words_, rows_, placed_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Way>> MakePrefetched(Client& client, Device& device,
                                                    const PrefetchedOptions& options) {
  PrefetcherOptions prefetch{.max_tokens = options.max_tokens,
                             .slots = 2,
                             .path = options.path,
                             .hot_cache_bytes = options.hot_cache_bytes};
  if (client.table_set().layers.front().encoding.kind != RowEncodingKind::kBf16) {
    absl::StatusOr<RowPlacing> placing = DequantizeOnArrival(client.table_set(), device);
    if (!placing.ok()) return placing.status();
    prefetch.place_rows = placing->place_rows;
    prefetch.placed_row_bytes = placing->placed_row_bytes;
  }
  auto prefetcher = Prefetcher::Create(client.transport(), device, prefetch);
  if (!prefetcher.ok()) return prefetcher.status();
  return std::unique_ptr<Way>(std::make_unique<Prefetched>(*std::move(prefetcher)));
}

absl::StatusOr<std::unique_ptr<Way>> MakeResident(Client& client, Device& device,
                                                  uint32_t max_tokens, uint32_t max_sequences) {
  const AttachedTableSet& set = client.transport().table_set();
  auto cpu = Addresser::Create(set.manifest.scheme, set.token_map, ShortSetId::Of(set.manifest.id),
                               client.addresser().image_token_ids());
  if (!cpu.ok()) return cpu.status();
  auto addresser = DeviceAddresser::Create(
      *cpu, device, {.max_tokens = max_tokens, .max_sequences = max_sequences});
  if (!addresser.ok()) return addresser.status();
  auto way = std::make_unique<Resident>(client, device, *std::move(addresser));
  if (absl::Status status = way->Allocate(max_tokens, max_sequences); !status.ok()) return status;
  return std::unique_ptr<Way>(std::move(way));
}

}  // namespace engram::simulator
