// ns an id of taking repeated ids out, beside the same with absl::flat_hash_map, warm: what decides
// whether the row deduplicator keeps a table of its own. The library's is measured as it does best:
// kept from call to call, emptied, with its room reserved.
//   bazel-bin/client/transport/row_deduplicator_benchmark
#include <cmath>
#include <random>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "benchmark/benchmark.h"
#include "client/transport/row_deduplicator.h"

namespace engram {
namespace {

constexpr uint64_t kTableRows = 384'006'168;  // of a V4.1 layer
constexpr size_t kBatches = 8;                // in turn, so that no branch is learnt by heart

struct Outputs {
  std::vector<RowId> distinct;
  std::vector<uint32_t> places;
  std::vector<RowCopy> copies;
};

// Ids of which about `distinct_percent` are new: a prompt that repeats itself, its n-grams hashed
// over the table.
std::vector<RowId> Ids(size_t count, uint64_t distinct_percent, uint32_t seed) {
  std::mt19937_64 random(seed);
  std::vector<RowId> ids(count);
  std::vector<RowId> seen;
  for (RowId& id : ids) {
    if (seen.empty() || random() % 100 < distinct_percent) seen.push_back(random() % kTableRows);
    id = seen.back();
    if (random() % 100 >= distinct_percent) id = seen[random() % seen.size()];
  }
  return ids;
}

void DistinctByLibrary(const std::vector<RowId>& ids, absl::flat_hash_map<RowId, uint32_t>* ranks,
                       Outputs* out) {
  out->distinct.clear();
  out->places.clear();
  out->copies.clear();
  ranks->clear();
  ranks->reserve(ids.size());
  for (uint32_t i = 0; i < ids.size(); ++i) {
    const auto [at, is_new] =
        ranks->try_emplace(ids[i], static_cast<uint32_t>(out->distinct.size()));
    if (is_new) {
      out->distinct.push_back(ids[i]);
      out->places.push_back(i);
    } else {
      out->copies.push_back({.from = out->places[at->second], .to = i});
    }
  }
}

template <typename Run>
void Measure(benchmark::State& state, const Run& run) {
  std::vector<std::vector<RowId>> batches;
  for (uint32_t i = 0; i < kBatches; ++i) {
    batches.push_back(Ids(state.range(0), state.range(1), i));
  }
  Outputs out;
  size_t at = 0;
  for (auto _ : state) {
    run(batches[at++ % kBatches], &out);
    benchmark::DoNotOptimize(out.copies.data());
  }
  const auto ids = static_cast<double>(state.range(0));
  state.counters["ns/id"] = benchmark::Counter(
      ids / 1e9, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void BM_Own(benchmark::State& state) {
  RowDeduplicator deduplicator;
  Measure(state, [&](const std::vector<RowId>& ids, Outputs* out) {
    (void)deduplicator.Distinct(ids, &out->distinct, &out->places, &out->copies);
  });
}
void BM_Library(benchmark::State& state) {
  absl::flat_hash_map<RowId, uint32_t> ranks;
  Measure(state, [&](const std::vector<RowId>& ids, Outputs* out) {
    DistinctByLibrary(ids, &ranks, out);
  });
}

// A prefill's layer of 256, 2048 and 10,000 tokens of 24 columns.
void Sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"ids", "distinct%"})->ArgsProduct({{6144, 49152, 240000}, {20, 50, 80}});
}
BENCHMARK(BM_Own)->Apply(Sizes);
BENCHMARK(BM_Library)->Apply(Sizes);

}  // namespace
}  // namespace engram
