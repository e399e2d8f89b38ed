// ns a row of Gather, over row widths, batch sizes and instruction sets, and of CheckRowIds.
// tests/bench/gather_compare.cc sets the same loop beside memcpy and hand-tuned ones.
#include <cstring>
#include <vector>

#include "benchmark/benchmark.h"
#include "memstore/gather/gather.h"
#include "memstore/gather/gather_kernels.h"
#include "memstore/store/arena.h"

namespace engram {
namespace {

using gather_internal::BestInstructionSet;
using gather_internal::FindKernel;
using gather_internal::InstructionSet;
using gather_internal::LandingCursor;
using gather_internal::PrefetchDistance;

constexpr uint64_t kTableBytes = uint64_t{1} << 30;  // many times any cache
constexpr size_t kIdPool = 1u << 20;

// One table for all runs, filled when the first asks.
const Arena* Table() {
  static const Arena* const kTable = [] {
    absl::StatusOr<Arena> arena = Arena::Map(kTableBytes, ArenaOptions());
    if (!arena.ok() || !arena->Populate(0, kTableBytes).ok()) return static_cast<Arena*>(nullptr);
    return new Arena(*std::move(arena));
  }();
  return kTable;
}

std::vector<uint32_t> UniformIds(uint64_t rows) {
  std::vector<uint32_t> ids(kIdPool);
  uint64_t state = 88172645463325252;
  for (uint32_t& id : ids) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    id = state % rows;
  }
  return ids;
}

void BM_Gather(benchmark::State& state) {
  const auto row_bytes = static_cast<uint32_t>(state.range(0));
  const auto batch = static_cast<size_t>(state.range(1));
  const auto set = static_cast<InstructionSet>(state.range(2));
  if (Table() == nullptr) return state.SkipWithError("no memory for the table");
  if (set > BestInstructionSet()) return state.SkipWithError("not on this processor");
  const GatherTable table{Table()->data(), kTableBytes / row_bytes, row_bytes};
  const std::vector<uint32_t> ids = UniformIds(table.rows);
  std::vector<std::byte> landing(batch * row_bytes);
  const auto kernel = FindKernel<uint32_t>(set, row_bytes);
  size_t at = 0;
  for (auto _ : state) {
    kernel(table, &ids[at], batch, LandingCursor{landing.data()}, PrefetchDistance(row_bytes));
    benchmark::ClobberMemory();
    at = at + 2 * batch <= ids.size() ? at + batch : 0;
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * batch));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * batch * row_bytes));
}
BENCHMARK(BM_Gather)
    ->ArgNames({"row_bytes", "rows", "set"})
    ->ArgsProduct({{90, 160, 264, 320, 512, 1000}, {48, 3072, 98304}, {0, 1, 2}});

template <typename Id>
void BM_CheckRowIds(benchmark::State& state) {
  const GatherTable table{nullptr, 384006168, 264};
  const std::vector<Id> ids(static_cast<size_t>(state.range(0)), 384006167);
  for (auto _ : state) benchmark::DoNotOptimize(CheckRowIds<Id>(table, ids).ok());
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * ids.size()));
}
BENCHMARK(BM_CheckRowIds<uint32_t>)->Arg(48)->Arg(3072)->Arg(98304);
BENCHMARK(BM_CheckRowIds<uint64_t>)->Arg(48)->Arg(3072)->Arg(98304);

}  // namespace
}  // namespace engram
