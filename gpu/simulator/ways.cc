#include "gpu/simulator/ways.h"

#include <algorithm>
#include <cstring>
#include <deque>

#include "absl/time/clock.h"
#include "gpu/device_addresser.h"
#include "gpu/mapped_gather.h"

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
                               .deadline = absl::Now() + kStepTime});
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

 private:
  const std::unique_ptr<Prefetcher> prefetcher_;
  std::deque<StepTicket> begun_;
};

class Resident final : public Way {
 public:
  Resident(Client& client, Device& device, std::unique_ptr<DeviceAddresser> addresser)
      : client_(client), device_(device), addresser_(std::move(addresser)) {}

  absl::Status Allocate(uint32_t max_tokens, uint32_t max_sequences) {
    uint64_t most = 0;
    for (const LayerTableSpec& layer : client_.table_set().layers)
      most = std::max<uint64_t>(most, layer.row_bytes);
    const uint64_t columns = client_.table_set().scheme.Columns();
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
        {&rows_, MemoryKind::kDevice, max_tokens * columns * most}};
    for (const auto& one : wanted) {
      absl::StatusOr<DeviceBuffer> memory = device_.Allocate(one.kind, one.bytes);
      if (!memory.ok()) return memory.status();
      *one.buffer = *std::move(memory);
    }
    return absl::OkStatus();
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
    const size_t index = is_first ? 0 : 1;
    const uint32_t count = tokens * manifest.scheme.Columns();
    absl::Status status =
        EnqueueMappedGather({.table = *client_.transport().MappedTable(index),
                             .ids = row_ids_.as<RowId>() + index * count,
                             .count = count,
                             .rows = rows_.data(),
                             .bad_ids = reinterpret_cast<uint32_t*>(words_.as<uint64_t>() + 1)},
                            device_.multiprocessors(), stream);
    if (!status.ok()) return status;
    return rows_.data();
  }
  absl::Status End() override { return addresser_->StatusOf(*words_.as<uint64_t>()); }

 private:
  absl::Status Address(const TrafficStep& step, Stream& stream) {
    std::memcpy(ids_.data(), step.token_ids.data(), step.token_ids.size() * sizeof(int32_t));
    auto* const starts = starts_.as<uint32_t>();
    for (size_t s = 0; s < step.sequences.size(); ++s) {
      starts[s + 1] = starts[s] + step.sequences[s].tokens;
      addresser_->WriteLookback(step.sequences[s].state,
                                lookback_.as<uint32_t>() + s * addresser_->lookback());
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
  DeviceBuffer ids_, starts_, lookback_, row_ids_, words_, rows_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Way>> MakePrefetched(Client& client, Device& device,
                                                    RowSource source, uint32_t max_tokens) {
  auto prefetcher = Prefetcher::Create(client.transport(), device,
                                       {.max_tokens = max_tokens, .slots = 2, .source = source});
  if (!prefetcher.ok()) return prefetcher.status();
  return std::unique_ptr<Way>(std::make_unique<Prefetched>(*std::move(prefetcher)));
}

absl::StatusOr<std::unique_ptr<Way>> MakeResident(Client& client, Device& device,
                                                  uint32_t max_tokens, uint32_t max_sequences) {
  auto cpu = Addresser::Create(client.table_set().scheme, client.transport().table_set().token_map);
  if (!cpu.ok()) return cpu.status();
  auto addresser = DeviceAddresser::Create(
      *cpu, device, {.max_tokens = max_tokens, .max_sequences = max_sequences});
  if (!addresser.ok()) return addresser.status();
  auto way = std::make_unique<Resident>(client, device, *std::move(addresser));
  if (absl::Status status = way->Allocate(max_tokens, max_sequences); !status.ok()) return status;
  return std::unique_ptr<Way>(std::move(way));
}

}  // namespace engram::simulator
