// Row ids a second of the whole path (range check, token map, window, hash, modulo, offset), beside
// the plain `%` version, and of each kernel alone:
//   bazel-bin/memstore/addressing/addresser_benchmark

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <random>

#include "memstore/addressing/addresser.h"
#include "memstore/addressing/families.h"
#include "memstore/addressing/hash_kernels.h"
#include "memstore/addressing/plain_addresser.h"
#include "memstore/addressing/sha256.h"

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

void Kernel(benchmark::State& state, const NamedHashKernel& kernel) {
  const std::shared_ptr<const Addresser> addresser = MakeAddresser("deepseek-v4.1-flash");
  const AddressScheme& scheme = addresser->scheme();
  const LayerHash layer(scheme, scheme.layers[0]);
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
         {std::pair("whole/", &WholePath), std::pair("plain/", &PlainPath)}) {
      auto* one = benchmark::RegisterBenchmark((path + name).c_str(), run, family.name.data());
      // A decode step, a step with drafts, prefill.
      one->Arg(1)->Arg(6)->Arg(256)->Arg(8192);
    }
  }
  for (const NamedHashKernel& kernel : HashKernels()) {
    if (!kernel.supported) continue;
    benchmark::RegisterBenchmark((std::string("kernel/") + kernel.name).c_str(), Kernel, kernel);
  }
}

}  // namespace
}  // namespace engram

int main(int argc, char** argv) {
  engram::Register();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
