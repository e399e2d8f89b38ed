// A device addresser with memory for its batches, for tests: batches go from the host to the
// device, and what comes of them back. Single-threaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "gpu/device/device.h"
#include "gpu/kernels/device_addresser.h"
#include "gtest/gtest.h"
#include "memstore/addressing/addresser.h"

namespace engram {

inline constexpr uint32_t kMaxTokens = 1 << 15;
inline constexpr uint32_t kMaxSequences = 256;

// A batch on the host, and its way to the device and back.
struct HostBatch {
  std::vector<int32_t> ids;
  std::vector<uint8_t> dead;  // empty: none
  std::vector<uint32_t> starts = {0};
  std::vector<uint32_t> lookback;
};

class Bench {
 public:
  Bench(std::shared_ptr<const Addresser> addresser, Device& device,
        std::vector<uint32_t> layers = {}, std::vector<ColumnSlice> slices = {})
      : addresser_(std::move(addresser)), device_(device) {
    on_device_ = DeviceAddresser::Create(addresser_, device,
                                         {.max_tokens = kMaxTokens,
                                          .max_sequences = kMaxSequences,
                                          .layers = layers,
                                          .slices = slices})
                     .value();
    stream_ = device.MakeStream("test").value();
    ids_ = Allocate(kMaxTokens * 4);
    dead_ = Allocate(kMaxTokens);
    starts_ = Allocate((kMaxSequences + 1) * 4);
    lookback_ = Allocate(kMaxSequences * kMaxOrder * 4);
    accepted_ = Allocate(kMaxSequences * 4);
    rows_ = Allocate(on_device_->RowIds(kMaxTokens) * 8);
    error_ = Allocate(8);
  }

  const DeviceAddresser& addresser() const { return *on_device_; }

  // The row ids of a batch; `*error`: its word.
  std::vector<RowId> Address(const HostBatch& host, uint64_t* error) {
    const AddressTokens batch = ToDevice(host);
    EXPECT_TRUE(
        on_device_->EnqueueAddress(batch, rows_.as<RowId>(), error_.as<uint64_t>(), *stream_).ok());
    std::vector<RowId> rows(on_device_->RowIds(batch.tokens));
    FromDevice(rows_, rows.data(), rows.size() * 8);
    FromDevice(error_, error, 8);
    return rows;
  }

  // The lookback after committing `accepted` (empty: all).
  std::vector<uint32_t> Advance(const HostBatch& host, const std::vector<uint32_t>& accepted,
                                uint64_t* error) {
    const AddressTokens batch = ToDevice(host);
    ToDevice(accepted_, accepted.data(), accepted.size() * 4);
    EXPECT_TRUE(on_device_
                    ->EnqueueAdvance(batch, accepted.empty() ? nullptr : accepted_.as<uint32_t>(),
                                     lookback_.as<uint32_t>(), error_.as<uint64_t>(), *stream_)
                    .ok());
    std::vector<uint32_t> lookback(host.lookback.size());
    FromDevice(lookback_, lookback.data(), lookback.size() * 4);
    FromDevice(error_, error, 8);
    return lookback;
  }

 private:
  DeviceBuffer Allocate(size_t bytes) {
    return device_.Allocate(MemoryKind::kDevice, bytes).value();
  }
  void ToDevice(const DeviceBuffer& to, const void* from, size_t bytes) {
    if (bytes > 0) {
      ASSERT_TRUE(stream_->Copy(to.data(), from, bytes).ok());
    }
  }
  AddressTokens ToDevice(const HostBatch& host) {
    const uint64_t no_error = 0;
    ToDevice(ids_, host.ids.data(), host.ids.size() * 4);
    ToDevice(dead_, host.dead.data(), host.dead.size());
    ToDevice(starts_, host.starts.data(), host.starts.size() * 4);
    ToDevice(lookback_, host.lookback.data(), host.lookback.size() * 4);
    ToDevice(error_, &no_error, 8);
    EXPECT_TRUE(stream_->Synchronize().ok());
    return {.token_ids = ids_.as<int32_t>(),
            .dead = host.dead.empty() ? nullptr : dead_.as<uint8_t>(),
            .starts = starts_.as<uint32_t>(),
            .lookback = lookback_.as<uint32_t>(),
            .sequences = static_cast<uint32_t>(host.starts.size() - 1),
            .tokens = static_cast<uint32_t>(host.ids.size())};
  }
  void FromDevice(const DeviceBuffer& from, void* to, size_t bytes) {
    ASSERT_TRUE(stream_->Copy(to, from.data(), bytes).ok());
    ASSERT_TRUE(stream_->Synchronize().ok());
  }

  std::shared_ptr<const Addresser> addresser_;
  Device& device_;
  std::unique_ptr<DeviceAddresser> on_device_;
  std::unique_ptr<Stream> stream_;
  DeviceBuffer ids_, dead_, starts_, lookback_, accepted_, rows_, error_;
};

// From its start.
inline HostBatch OneSequence(const DeviceAddresser& addresser, std::vector<int32_t> ids) {
  HostBatch batch;
  batch.ids = std::move(ids);
  batch.starts.push_back(static_cast<uint32_t>(batch.ids.size()));
  batch.lookback.resize(addresser.lookback());
  EXPECT_TRUE(addresser.WriteLookback(Addresser::Start(), batch.lookback.data()).ok());
  return batch;
}

}  // namespace engram
