// What verifying a table set in memory takes of one core: bytes a second, and time a step.
#include <filesystem>
#include <memory>

#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "memstore/store/resident_verifier.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/shard_format.h"

namespace engram {
namespace {

constexpr uint32_t kRowBytes = 264;
constexpr uint64_t kRows = 4u << 20;  // 1 GiB: many times any cache

std::shared_ptr<const TableSet> LoadSet() {
  const std::string directory =
      absl::StrCat(std::filesystem::temp_directory_path().string(), "/resident_verifier_benchmark");
  const auto written =
      testing::WriteSmallTableSet({.layers = {{.row_bytes = kRowBytes,
                                               .rows = kRows,
                                               .shard_rows = kRows,
                                               .block_rows = ChooseBlockRows(kRowBytes)}}},
                                  directory);
  auto set = written.ok() ? TableSet::Load(directory, {}) : written.status();
  std::filesystem::remove_all(directory);
  return set.ok() ? *std::move(set) : nullptr;
}

void BM_VerifyResident(benchmark::State& state) {
  static const std::shared_ptr<const TableSet> set = LoadSet();
  if (set == nullptr) return state.SkipWithError("the table set cannot be written or loaded");
  ResidentVerifier verifier;
  int64_t bytes = 0;
  for (auto _ : state) {
    absl::StatusOr<uint64_t> step = verifier.Step(*set);
    if (!step.ok()) return state.SkipWithError("damaged");
    if (*step == 0) verifier = ResidentVerifier();
    bytes += static_cast<int64_t>(*step);
  }
  state.SetBytesProcessed(bytes);
}
BENCHMARK(BM_VerifyResident);

}  // namespace
}  // namespace engram
