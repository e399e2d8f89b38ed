// The loops that packing and verifying spend their time in, beside a plain copy of as many bytes.

#include <benchmark/benchmark.h>

#include <cstring>
#include <vector>

#include "memstore/table/interleave.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

// As many rows as a packer's thread handles at a time.
constexpr size_t kRows = 12288;
constexpr uint32_t kWeightBytes = 256, kScaleBytes = 8, kRowBytes = 264;

void SetBytes(benchmark::State& state) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * kRows * kRowBytes);
}

void BM_Copy(benchmark::State& state) {
  std::vector<std::byte> from(kRows * kRowBytes, std::byte{1}), to(from.size());
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size());
    benchmark::ClobberMemory();
  }
  SetBytes(state);
}
BENCHMARK(BM_Copy);

void BM_Interleave(benchmark::State& state) {
  std::vector<std::byte> weights(kRows * kWeightBytes, std::byte{1});
  std::vector<std::byte> scales(kRows * kScaleBytes, std::byte{2}), out(kRows * kRowBytes);
  for (auto _ : state) {
    const PartRows parts[] = {{weights.data(), kWeightBytes}, {scales.data(), kScaleBytes}};
    InterleaveRows(parts, absl::MakeSpan(out));
    benchmark::ClobberMemory();
  }
  SetBytes(state);
}
BENCHMARK(BM_Interleave);

void BM_Crc32c(benchmark::State& state) {
  const std::vector<std::byte> bytes(kRows * kRowBytes, std::byte{1});
  for (auto _ : state) benchmark::DoNotOptimize(Crc32c(bytes));
  SetBytes(state);
}
BENCHMARK(BM_Crc32c);

void BM_SyntheticRows(benchmark::State& state) {
  std::vector<std::byte> out(kRows * kRowBytes);
  for (auto _ : state) {
    SyntheticRows(1, 0, kRowBytes, absl::MakeSpan(out));
    benchmark::ClobberMemory();
  }
  SetBytes(state);
}
BENCHMARK(BM_SyntheticRows);

}  // namespace
}  // namespace engram
