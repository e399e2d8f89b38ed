// Row ids a second of the whole path (range check, token map, window, hash, modulo, offset), beside
// the plain `%` version, and of each kernel alone:
//   bazel-bin/memstore/addressing/addresser_benchmark
// Then, for each family and number of tokens that was measured, whether the two bars are met.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "memstore/addressing/addresser.h"
#include "memstore/addressing/column_check.h"
#include "memstore/addressing/families.h"
#include "memstore/addressing/hash_kernels.h"
#include "memstore/addressing/testing/plain_addresser.h"
#include "memstore/base/sha256.h"

namespace engram {
namespace {

// Any map will do, so a made-up one of the family's size stands in for its own.
std::shared_ptr<const TokenMap> MadeUpMap(AddressScheme* scheme) {
  if (!scheme->token_map) return nullptr;
  std::vector<int32_t> ids(scheme->vocab_size);
  std::mt19937 random(1);
  for (int32_t& id : ids) {
    id = static_cast<int32_t>(random() % scheme->token_map->compressed_vocab_size);
  }
  const absl::string_view bytes(reinterpret_cast<const char*>(ids.data()), ids.size() * 4);
  scheme->token_map->sha256 = Sha256Hex(bytes);
  auto map = TokenMap::Parse(bytes, scheme->vocab_size, *scheme->token_map, "made up");
  if (!map.ok()) std::abort();
  return std::make_shared<const TokenMap>(*std::move(map));
}

std::shared_ptr<const Addresser> MakeAddresser(absl::string_view family) {
  absl::StatusOr<AddressScheme> scheme = Derive(**FindFamily(family), {});
  if (!scheme.ok()) std::abort();
  std::shared_ptr<const TokenMap> map = MadeUpMap(&*scheme);
  return *Addresser::Create(*std::move(scheme), std::move(map));
}

std::vector<int32_t> RandomIds(const AddressScheme& scheme, size_t tokens) {
  std::vector<int32_t> ids(tokens);
  std::mt19937 random(2);
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % scheme.vocab_size);
  return ids;
}

void CountRows(benchmark::State& state, size_t rows) {
  state.counters["row_ids/s"] =
      benchmark::Counter(static_cast<double>(rows), benchmark::Counter::kIsIterationInvariantRate);
}

void WholePath(benchmark::State& state, const char* family) {
  const std::shared_ptr<const Addresser> addresser = MakeAddresser(family);
  const AddressScheme& scheme = addresser->scheme();
  const std::vector<int32_t> ids = RandomIds(scheme, state.range(0));
  const size_t stride = scheme.layers.size() * scheme.Columns();
  std::vector<RowId> rows(ids.size() * stride);
  std::vector<LayerRowIdsOutput> outputs;
  for (uint32_t l = 0; l < scheme.layers.size(); ++l) {
    outputs.push_back({l, rows.data() + size_t{l} * scheme.Columns(), stride});
  }
  for (auto _ : state) {
    if (!addresser->Address(Addresser::Start(), ids, {}, outputs).ok()) std::abort();
    benchmark::DoNotOptimize(rows.data());
    benchmark::ClobberMemory();
  }
  CountRows(state, rows.size());
}

// Of every order the first quarter of its heads: what one of four owners is asked for.
ColumnSlice QuarterOfHeads(const AddressScheme& scheme) {
  std::vector<ColumnRun> runs;
  for (uint32_t order = 2; order <= scheme.max_order; ++order) {
    runs.push_back(
        {(order - 2) * scheme.heads_per_order, std::max(1u, scheme.heads_per_order / 4)});
  }
  return ColumnSlice::Create(runs, scheme.Columns()).value();
}

// Beside WholePath: row ids counted are those of all columns, so that rates compare.
void SlicePath(benchmark::State& state, const char* family) {
  const std::shared_ptr<const Addresser> addresser = MakeAddresser(family);
  const AddressScheme& scheme = addresser->scheme();
  const std::vector<int32_t> ids = RandomIds(scheme, state.range(0));
  const ColumnSlice slice = QuarterOfHeads(scheme);
  const size_t stride = scheme.layers.size() * slice.columns();
  std::vector<RowId> rows(ids.size() * stride);
  std::vector<LayerRowIdsOutput> outputs;
  for (uint32_t l = 0; l < scheme.layers.size(); ++l) {
    outputs.push_back({l, rows.data() + size_t{l} * slice.columns(), stride, &slice});
  }
  for (auto _ : state) {
    if (!addresser->Address(Addresser::Start(), ids, {}, outputs).ok()) std::abort();
    benchmark::DoNotOptimize(rows.data());
    benchmark::ClobberMemory();
  }
  CountRows(state, ids.size() * scheme.layers.size() * scheme.Columns());
}

// The other way to a slice: a layer that has its columns alone, a block an order as before.
LayerHash SlicedLayer(const AddressScheme& scheme, const ColumnSlice& slice) {
  LayerHash layer(scheme, scheme.layers[0]);
  uint32_t column = 0;
  for (ColumnBlock& block : layer.blocks) {
    block.first_column = column;
    block.lanes = slice.columns() / static_cast<uint32_t>(layer.blocks.size());
    column += block.lanes;
  }
  return layer;
}

template <typename Id>
void ColumnCheck(benchmark::State& state) {
  const std::shared_ptr<const Addresser> addresser = MakeAddresser("deepseek-v4.1-flash");
  const LayerAddressing& layer = addresser->scheme().layers[0];
  const ColumnSlice all = ColumnSlice::All(24);
  std::vector<Id> ids;
  for (int64_t t = 0; t < state.range(0); ++t) {
    for (uint32_t c = 0; c < 24; ++c) ids.push_back(static_cast<Id>(layer.offsets[c] + t));
  }
  for (auto _ : state) {
    if (!CheckColumnIds<Id>(layer, all, ids).ok()) std::abort();
  }
  CountRows(state, ids.size());
}
BENCHMARK(ColumnCheck<uint32_t>)->Arg(1)->Arg(256)->Arg(8192);
BENCHMARK(ColumnCheck<uint64_t>)->Arg(1)->Arg(256)->Arg(8192);

void PlainPath(benchmark::State& state, const char* family) {
  const std::shared_ptr<const Addresser> addresser = MakeAddresser(family);
  const std::vector<int32_t> ids = RandomIds(addresser->scheme(), state.range(0));
  std::vector<RowId> rows;
  for (auto _ : state) {
    PlainAddress(addresser->scheme(), addresser->token_map().get(), ids, {}, &rows);
    benchmark::DoNotOptimize(rows.data());
    benchmark::ClobberMemory();
  }
  CountRows(state, rows.size());
}

void Kernel(benchmark::State& state, const NamedHashKernel& kernel, bool sliced) {
  const std::shared_ptr<const Addresser> addresser = MakeAddresser("deepseek-v4.1-flash");
  const AddressScheme& scheme = addresser->scheme();
  const LayerHash layer =
      sliced ? SlicedLayer(scheme, QuarterOfHeads(scheme)) : LayerHash(scheme, scheme.layers[0]);
  const std::vector<int32_t> ids = RandomIds(scheme, kTileTokens);
  WindowTile tile = {};
  tile.tokens = kTileTokens;
  for (uint32_t k = 0; k < scheme.max_order; ++k) {
    for (uint32_t t = 0; t < kTileTokens; ++t) tile.ids[k][t] = ids[(t + k) % kTileTokens];
  }
  std::vector<RowId> rows(size_t{kTileTokens} * scheme.Columns());
  for (auto _ : state) {
    kernel.hash(layer, tile, rows.data(), scheme.Columns());
    benchmark::DoNotOptimize(rows.data());
    benchmark::ClobberMemory();
  }
  CountRows(state, rows.size());
}

void Register() {
  for (const Family& family : Families()) {
    const std::string name(family.name);
    for (const auto& [path, run] :
         {std::pair("whole/", &WholePath), std::pair("plain/", &PlainPath),
          std::pair("slice/", &SlicePath)}) {
      auto* one = benchmark::RegisterBenchmark((path + name).c_str(), run, family.name.data());
      // A decode step, a step with drafts, prefill.
      one->Arg(1)->Arg(6)->Arg(256)->Arg(8192);
    }
  }
  for (const NamedHashKernel& kernel : HashKernels()) {
    if (!kernel.supported) continue;
    benchmark::RegisterBenchmark((std::string("kernel/") + kernel.name).c_str(), Kernel, kernel,
                                 false);
    benchmark::RegisterBenchmark((std::string("kernel_of_slice/") + kernel.name).c_str(), Kernel,
                                 kernel, true);
  }
}

// Row ids a second, and over the plain version: below either, addressing would show in a step.
constexpr double kBarRowIdsPerSecond = 0.8e9;
constexpr double kBarOverPlain = 1.6;

// Prints as usual, and keeps what was measured: of repetitions the median.
class BarReporter : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    ConsoleReporter::ReportRuns(runs);
    for (const Run& run : runs) {
      const bool is_median = run.run_type == Run::RT_Aggregate && run.aggregate_name == "median";
      const bool is_only = run.run_type == Run::RT_Iteration && run.repetitions <= 1;
      const auto rate = run.counters.find("row_ids/s");
      if ((!is_median && !is_only) || rate == run.counters.end()) continue;
      // "whole", then "FAMILY/TOKENS".
      const std::string& name = run.run_name.function_name;
      const size_t slash = name.find('/');
      if (slash == std::string::npos) continue;
      rates_[name.substr(slash + 1) + "/" + run.run_name.args][name.substr(0, slash)] =
          rate->second.value;
    }
  }

  void PrintBars() const {
    for (const auto& [what, rates] : rates_) {
      const auto whole = rates.find("whole"), plain = rates.find("plain");
      if (whole == rates.end() || plain == rates.end()) continue;
      const double ratio = whole->second / plain->second;
      std::printf("%-28s %5.2f G row ids/s (bar %.1f: %s), %5.2f of plain (bar %.1f: %s)\n",
                  what.c_str(), whole->second / 1e9, kBarRowIdsPerSecond / 1e9,
                  Verdict(whole->second >= kBarRowIdsPerSecond), ratio, kBarOverPlain,
                  Verdict(ratio >= kBarOverPlain));
    }
  }

 private:
  static const char* Verdict(bool met) { return met ? "met" : "missed"; }

  std::map<std::string, std::map<std::string, double>> rates_;
};

}  // namespace
}  // namespace engram

int main(int argc, char** argv) {
  engram::Register();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  engram::BarReporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  reporter.PrintBars();
  return 0;
}
