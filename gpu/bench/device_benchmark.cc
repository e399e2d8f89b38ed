// What a device's kernels take beside plain copies of the same bytes: addressing a step's tokens,
// and gathering rows in place out of host memory that is registered. `--device host` by default;
// `--device cuda` where there is one. Both sides take turns; times are medians over the turns.
//
//   Address/TOKENS      copy: on the device, as many bytes as ids are read and row ids written.
//                       Bar: over_copy <= 2.
//   MappedGather/TOKENS copy: pinned memory to the device, as many bytes as the rows have.
//                       Bar: of_copy >= 0.8 from 64 tokens on.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "gpu/device/device.h"
#include "gpu/kernels/device_addresser.h"
#include "gpu/kernels/mapped_gather.h"
#include "memstore/addressing/testing/golden.h"
#include "memstore/base/clock.h"

namespace engram {
namespace {

constexpr char kFamily[] = "deepseek-v4.1-flash";
constexpr uint32_t kTokens[] = {64, 512, 2048, 16384};
constexpr uint32_t kColumns = 24;
constexpr uint32_t kRowBytes = 264;
constexpr uint64_t kTableRows = 4'000'000;  // 1 GB: no cache holds it
constexpr uint32_t kMaxTokens = 16384;
constexpr uint32_t kLaunches =
    20;  // a turn: what one launch costs the host is hidden behind others

double Median(std::vector<double>& times) {
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

// Microseconds that each of kLaunches of it takes.
template <typename Enqueue>
double TurnUs(Stream& stream, const Enqueue& enqueue) {
  const MonotonicTime begin = RealClock().Now();
  absl::Status status;
  for (uint32_t i = 0; i < kLaunches && status.ok(); ++i) status = enqueue();
  if (status.ok()) status = stream.Synchronize();
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    std::abort();
  }
  return absl::ToDoubleMicroseconds(RealClock().Now() - begin) / kLaunches;
}

class Bench {
 public:
  explicit Bench(Device& device) : device_(device) {
    stream_ = device.MakeStream("bench").value();
    addresser_ = DeviceAddresser::Create(AddresserFor(DeriveOrDie(kFamily)), device,
                                         {.max_tokens = kMaxTokens, .max_sequences = kMaxTokens})
                     .value();
  }

  // As many sequences as tokens (decode), up to 512, each with its share of the tokens.
  void Address(benchmark::State& state, uint32_t tokens) {
    const uint32_t sequences = std::min(tokens, 512u);
    std::mt19937 random(7);
    std::vector<int32_t> ids(tokens);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % addresser_->scheme().vocab_size);
    std::vector<uint32_t> starts(sequences + 1);
    for (uint32_t s = 0; s <= sequences; ++s) starts[s] = uint64_t{tokens} * s / sequences;
    std::vector<uint32_t> lookback(sequences * addresser_->lookback());
    for (uint32_t s = 0; s < sequences; ++s) {
      uint32_t* const words = &lookback[s * addresser_->lookback()];
      if (!addresser_->WriteLookback(Addresser::Start(), words).ok()) std::abort();
    }
    const DeviceBuffer ids_there = ToDevice(ids.data(), ids.size() * sizeof(ids[0]));
    const DeviceBuffer starts_there = ToDevice(starts.data(), starts.size() * sizeof(starts[0]));
    const DeviceBuffer lookback_there =
        ToDevice(lookback.data(), lookback.size() * sizeof(lookback[0]));
    const DeviceBuffer error = Allocate(MemoryKind::kDevice, sizeof(uint64_t));
    const AddressTokens batch{.token_ids = ids_there.as<int32_t>(),
                              .starts = starts_there.as<uint32_t>(),
                              .lookback = lookback_there.as<uint32_t>(),
                              .sequences = sequences,
                              .tokens = tokens};
    const size_t row_bytes = addresser_->RowIds(tokens) * sizeof(RowId);
    const DeviceBuffer rows = Allocate(MemoryKind::kDevice, row_bytes);
    // A copy reads and writes what it copies.
    const size_t copied = (row_bytes + tokens * sizeof(int32_t)) / 2;
    const DeviceBuffer from = Allocate(MemoryKind::kDevice, copied);
    const DeviceBuffer to = Allocate(MemoryKind::kDevice, copied);
    TakeTurns(
        state, "over_copy", /*rate=*/false,
        [&] {
          return addresser_->EnqueueAddress(batch, rows.as<RowId>(), error.as<uint64_t>(),
                                            *stream_);
        },
        [&] { return stream_->Copy(to.data(), from.data(), copied); });
  }

  void Gather(benchmark::State& state, uint32_t tokens) {
    if (table_.empty()) {
      table_.resize(kTableRows * kRowBytes, std::byte{1});
      absl::StatusOr<std::unique_ptr<RegisteredMemory>> registered = device_.Register(table_);
      if (!registered.ok()) return state.SkipWithError(registered.status().ToString().c_str());
      registered_ = *std::move(registered);
    }
    const uint32_t count = tokens * kColumns;
    std::mt19937_64 random(5);
    std::vector<RowId> ids(count);
    for (RowId& id : ids) id = random() % kTableRows;
    const DeviceBuffer ids_there = ToDevice(ids.data(), ids.size() * sizeof(RowId));
    const size_t bytes = size_t{count} * kRowBytes;
    const DeviceBuffer rows = Allocate(MemoryKind::kDevice, bytes);
    const DeviceBuffer pinned = Allocate(MemoryKind::kPinnedHost, bytes);
    const DeviceBuffer bad_ids = Allocate(MemoryKind::kPinnedHost, sizeof(uint32_t));
    const MappedGather gather{
        .table = {.base = registered_->on_device(), .rows = kTableRows, .row_bytes = kRowBytes},
        .ids = ids_there.as<RowId>(),
        .count = count,
        .rows = rows.data(),
        .bad_ids = bad_ids.as<uint32_t>()};
    TakeTurns(
        state, "of_copy", /*rate=*/true,
        [&] { return EnqueueMappedGather(gather, device_.multiprocessors(), *stream_); },
        [&] { return stream_->Copy(rows.data(), pinned.data(), bytes); });
    state.counters["gb_per_s"] = bytes / state.counters["kernel_us"] / 1e3;
    if (*bad_ids.as<uint32_t>() != 0) state.SkipWithError("a row id was out of range");
  }

 private:
  // `rate`: the ratio is the copy's time over the kernel's, else the kernel's over the copy's.
  template <typename Kernel, typename Copy>
  void TakeTurns(benchmark::State& state, const char* ratio, bool rate, const Kernel& kernel,
                 const Copy& copy) {
    std::vector<double> kernel_us, copy_us;
    TurnUs(*stream_, kernel);
    TurnUs(*stream_, copy);
    for (auto _ : state) {
      kernel_us.push_back(TurnUs(*stream_, kernel));
      copy_us.push_back(TurnUs(*stream_, copy));
    }
    const double kernel_median = Median(kernel_us), copy_median = Median(copy_us);
    state.counters["kernel_us"] = kernel_median;
    state.counters["copy_us"] = copy_median;
    state.counters[ratio] = rate ? copy_median / kernel_median : kernel_median / copy_median;
  }
  DeviceBuffer Allocate(MemoryKind kind, size_t bytes) {
    return device_.Allocate(kind, bytes).value();
  }
  DeviceBuffer ToDevice(const void* from, size_t bytes) {
    DeviceBuffer there = Allocate(MemoryKind::kDevice, bytes);
    if (!stream_->Copy(there.data(), from, bytes).ok() || !stream_->Synchronize().ok())
      std::abort();
    return there;
  }

  Device& device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<DeviceAddresser> addresser_;
  std::vector<std::byte> table_;
  std::unique_ptr<RegisteredMemory> registered_;
};

}  // namespace
}  // namespace engram

int main(int argc, char** argv) {
  using engram::DeviceKind;
  benchmark::Initialize(&argc, argv);
  DeviceKind kind = DeviceKind::kHost;
  if (argc == 3 && std::strcmp(argv[1], "--device") == 0) {
    if (std::strcmp(argv[2], "cuda") == 0) kind = DeviceKind::kCuda;
  } else if (argc != 1) {
    std::fprintf(stderr, "usage: %s [--device host|cuda] [--benchmark_...]\n", argv[0]);
    return 2;
  }
  const auto device = engram::OpenDevice(kind, {});
  if (!device.ok()) {
    std::fprintf(stderr, "%s\n", std::string(device.status().message()).c_str());
    return 1;
  }
  std::printf("device: %s\n", (*device)->Describe().c_str());
  engram::Bench bench(**device);
  for (const uint32_t tokens : engram::kTokens) {
    benchmark::RegisterBenchmark(("Address/" + std::to_string(tokens)).c_str(),
                                 [&, tokens](benchmark::State& s) { bench.Address(s, tokens); })
        ->UseRealTime();
  }
  for (const uint32_t tokens : engram::kTokens) {
    benchmark::RegisterBenchmark(("MappedGather/" + std::to_string(tokens)).c_str(),
                                 [&, tokens](benchmark::State& s) { bench.Gather(s, tokens); })
        ->UseRealTime();
  }
  benchmark::RunSpecifiedBenchmarks();
}
