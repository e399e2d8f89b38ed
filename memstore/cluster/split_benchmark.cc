// What splitting a batch costs beside the gather of its rows: V4.1's shape (two layers of three
// orders of eight heads, rows of 264 bytes), four partitions. The bar: BM_Split's time is at most
// 5 % of BM_Gather's for the same tokens.
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "memstore/cluster/split.h"
#include "memstore/gather/gather.h"
#include "memstore/partition/partition.h"
#include "memstore/store/arena.h"

namespace engram {
namespace {

constexpr uint32_t kRowBytes = 264;
constexpr uint32_t kLayers = 2;
constexpr uint64_t kColumnRows = 150'000;  // 1.9 GB of rows, many times any cache
constexpr uint32_t kPartitions = 4;

AddressScheme Scheme() {
  AddressScheme scheme;
  scheme.max_order = 4;
  scheme.heads_per_order = 8;
  scheme.vocab_size = 1000;
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    LayerAddressing& made = scheme.layers.emplace_back();
    made.layer = layer;
    for (uint32_t column = 0; column < scheme.Columns(); ++column) {
      made.offsets.push_back(column * kColumnRows);
      made.moduli.push_back(kColumnRows);
    }
  }
  return scheme;
}

std::vector<StoreState> Stores(const AddressScheme& scheme, const std::string& set_id) {
  std::vector<StoreState> stores;
  for (uint32_t p = 0; p < kPartitions; ++p) {
    StoreState& store = stores.emplace_back();
    store.instance_id = absl::StrCat("store", p);
    store.address = store.instance_id;
    HeldSet& set = store.sets.emplace_back();
    set.name = "table";
    set.set_id = set_id;
    set.state = HoldingState::kServing;
    const std::vector<HeldLayer> rows =
        RowsOf(ColumnsOf(PartitionIndex{p, kPartitions}, scheme).value(), scheme);
    for (uint32_t i = 0; i < kLayers; ++i) {
      set.layers.push_back({.layer = scheme.layers[i].layer, .rows = rows[i]});
    }
  }
  return stores;
}

// A batch's ids, in columns, of both layers.
struct Batch {
  explicit Batch(uint64_t tokens)
      : scheme(Scheme()),
        slice(ColumnSlice::All(scheme.Columns())),
        landing(kLayers * tokens * slice.columns() * kRowBytes) {
    std::mt19937_64 random(1);
    for (uint32_t l = 0; l < kLayers; ++l) {
      for (uint64_t i = 0; i < tokens * slice.columns(); ++i) {
        ids[l].push_back(i % slice.columns() * kColumnRows + random() % kColumnRows);
      }
      requests.push_back({.layer_index = l,
                          .row_bytes = kRowBytes,
                          .row_ids = ids[l],
                          .slice = &slice,
                          .landing = {.data = landing.data() + l * landing.size() / kLayers}});
    }
  }
  int64_t rows() const { return static_cast<int64_t>(kLayers * ids[0].size()); }

  const AddressScheme scheme;
  const ColumnSlice slice;
  std::vector<std::byte> landing;
  std::vector<RowId> ids[kLayers];
  std::vector<SplitRequest> requests;
};

void SplitIt(benchmark::State& state, bool in_columns, SplitStyle style) {
  Batch batch(static_cast<uint64_t>(state.range(0)));
  if (!in_columns) {
    for (SplitRequest& request : batch.requests) request.slice = nullptr;
  }
  const std::string id(64, 'a');
  const auto map = ClusterMap::Create(id, batch.scheme, Stores(batch.scheme, id));
  if (!map.ok()) return state.SkipWithError("no map");
  BatchSplitter splitter(*map);
  BatchSplit split;
  for (auto _ : state) {
    benchmark::DoNotOptimize(splitter.Split(batch.requests, style, &split).ok());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * batch.rows());
}

void BM_Split(benchmark::State& state) { SplitIt(state, true, SplitStyle::kPlaces); }
void BM_SplitIntoRuns(benchmark::State& state) { SplitIt(state, true, SplitStyle::kRuns); }
void BM_SplitByRanges(benchmark::State& state) { SplitIt(state, false, SplitStyle::kPlaces); }
BENCHMARK(BM_Split)->ArgName("tokens")->Arg(1)->Arg(64)->Arg(4096);
BENCHMARK(BM_SplitIntoRuns)->ArgName("tokens")->Arg(1)->Arg(64)->Arg(4096);
BENCHMARK(BM_SplitByRanges)->ArgName("tokens")->Arg(1)->Arg(64)->Arg(4096);

// The same rows, gathered in place by one thread.
void BM_Gather(benchmark::State& state) {
  const Batch batch(static_cast<uint64_t>(state.range(0)));
  const uint64_t rows = batch.scheme.layers[0].Rows();
  absl::StatusOr<Arena> arena = Arena::Map(kLayers * rows * kRowBytes, ArenaOptions());
  if (!arena.ok() || !arena->Populate(0, kLayers * rows * kRowBytes).ok()) {
    return state.SkipWithError("no memory for the table");
  }
  for (auto _ : state) {
    for (uint32_t l = 0; l < kLayers; ++l) {
      const GatherTable table{arena->data() + l * rows * kRowBytes, rows, kRowBytes};
      Gather<RowId>(table, batch.requests[l].row_ids, batch.requests[l].landing);
    }
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * batch.rows());
}
BENCHMARK(BM_Gather)->ArgName("tokens")->Arg(1)->Arg(64)->Arg(4096);

}  // namespace
}  // namespace engram
