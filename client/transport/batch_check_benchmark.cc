// ns a row id of CheckBatch: ids in any order (0), held against all columns (1), against three runs
// of two columns (2). The columns' check is the same one pass, and about as fast.
#include <vector>

#include "benchmark/benchmark.h"
#include "client/transport/batch_check.h"
#include "memstore/base/clock.h"

namespace engram {
namespace {

constexpr uint32_t kColumns = 24;
constexpr uint64_t kColumnRows = 16'000'000;  // of deepseek-v4.1-flash, about

Manifest OneLayer() {
  Manifest manifest;
  manifest.scheme.max_order = 4;
  manifest.scheme.heads_per_order = kColumns / 3;
  LayerAddressing& addressing = manifest.scheme.layers.emplace_back();
  for (uint32_t c = 0; c < kColumns; ++c) {
    addressing.moduli.push_back(kColumnRows);
    addressing.offsets.push_back(c * kColumnRows);
  }
  LayerTableSpec& layer = manifest.layers.emplace_back();
  layer.rows = kColumns * kColumnRows;
  layer.row_bytes = 264;
  return manifest;
}

void BM_CheckBatch(benchmark::State& state) {
  const Manifest manifest = OneLayer();
  const ColumnRun runs[] = {{0, 2}, {8, 2}, {16, 2}};
  const ColumnSlice slice = state.range(0) == 2 ? ColumnSlice::Create(runs, kColumns).value()
                                                : ColumnSlice::All(kColumns);
  std::vector<RowId> ids;
  for (int64_t token = 0; token < state.range(1); ++token) {
    for (uint32_t c = 0; c < slice.columns(); ++c) {
      const uint64_t row = (token * 7919 + c) * 104'729 % kColumnRows;
      ids.push_back(slice.LayerColumn(c) * kColumnRows + row);
    }
  }
  std::byte landing;
  const LayerRequest layer = {.layer = 0,
                              .row_ids = ids,
                              .landing = {.data = &landing},
                              .slice = state.range(0) == 0 ? nullptr : &slice};
  const BatchRequest batch = {.layers = {&layer, 1}};
  const Capabilities capabilities = {
      .name = "benchmark", .lands_asynchronously = false, .max_batch_rows = uint64_t{1} << 30};
  for (auto _ : state) {
    const absl::Status status = CheckBatch(batch, manifest, capabilities, RealClock());
    if (!status.ok()) state.SkipWithError(std::string(status.message()).c_str());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(ids.size()));
}
BENCHMARK(BM_CheckBatch)->ArgsProduct({{0, 1, 2}, {1, 64, 4096}});

}  // namespace
}  // namespace engram
