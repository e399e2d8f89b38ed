// What splitting a batch costs beside the gather of its rows: V4.1's shape (two layers of three
// orders of eight heads, rows of 264 bytes), four partitions. The bar: a row takes at most 5 % of
// BM_Gather's for the same tokens.
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
  int64_t rows() const { return static_cast<int64_t>(ids[0].size() + ids[1].size()); }

  const AddressScheme scheme;
  const ColumnSlice slice;
  std::vector<std::byte> landing;
  std::vector<RowId> ids[kLayers];
  std::vector<SplitRequest> requests;
};

void SplitIt(benchmark::State& state, Batch& batch, SplitStyle style) {
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

void BM_Split(benchmark::State& state) {
  Batch batch(static_cast<uint64_t>(state.range(0)));
  SplitIt(state, batch, SplitStyle::kPlaces);
}
void BM_SplitIntoRuns(benchmark::State& state) {
  Batch batch(static_cast<uint64_t>(state.range(0)));
  SplitIt(state, batch, SplitStyle::kRuns);
}
// In the order of columns, which is not said.
void BM_SplitByRanges(benchmark::State& state) {
  Batch batch(static_cast<uint64_t>(state.range(0)));
  for (SplitRequest& request : batch.requests) request.slice = nullptr;
  SplitIt(state, batch, SplitStyle::kPlaces);
}
// As a distinct plan has them: some, here three in ten, were there before and are left out.
void BM_SplitDistinct(benchmark::State& state) {
  Batch batch(static_cast<uint64_t>(state.range(0)));
  std::mt19937_64 random(2);
  for (uint32_t l = 0; l < kLayers; ++l) {
    std::erase_if(batch.ids[l], [&](RowId) { return random() % 10 < 3; });
    batch.requests[l].slice = nullptr;
    batch.requests[l].row_ids = batch.ids[l];
  }
  SplitIt(state, batch, SplitStyle::kPlaces);
}
BENCHMARK(BM_Split)->ArgName("tokens")->Arg(1)->Arg(64)->Arg(4096);
BENCHMARK(BM_SplitIntoRuns)->ArgName("tokens")->Arg(1)->Arg(64)->Arg(4096);
BENCHMARK(BM_SplitByRanges)->ArgName("tokens")->Arg(1)->Arg(64)->Arg(4096);
BENCHMARK(BM_SplitDistinct)->ArgName("tokens")->Arg(1)->Arg(64)->Arg(4096);

// As many rows, gathered in place by one thread: other ones each time, for a table's rows are in no
// cache, however small the batch.
void BM_Gather(benchmark::State& state) {
  constexpr uint64_t kTokens = 16384;  // 207 MB of rows
  const auto tokens = static_cast<uint64_t>(state.range(0));
  const Batch batch(kTokens);
  const uint64_t rows = batch.scheme.layers[0].Rows();
  const uint64_t columns = batch.scheme.Columns();
  absl::StatusOr<Arena> arena = Arena::Map(kLayers * rows * kRowBytes, ArenaOptions());
  if (!arena.ok() || !arena->Populate(0, kLayers * rows * kRowBytes).ok()) {
    return state.SkipWithError("no memory for the table");
  }
  uint64_t at = 0;
  for (auto _ : state) {
    for (uint32_t l = 0; l < kLayers; ++l) {
      const GatherTable table{arena->data() + l * rows * kRowBytes, rows, kRowBytes};
      Gather<RowId>(table,
                    absl::MakeConstSpan(batch.ids[l]).subspan(at * columns, tokens * columns),
                    batch.requests[l].landing);
    }
    at = at + 2 * tokens > kTokens ? 0 : at + tokens;
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kLayers * tokens * columns));
}
BENCHMARK(BM_Gather)->ArgName("tokens")->Arg(1)->Arg(64)->Arg(4096);

}  // namespace
}  // namespace engram
