// How fast the host dequantises: rows of every encoding, each instruction set, one core; and, of
// the encoding that matters most, straight from distinct rows through an inverse.
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "gpu/kernels/dequantize.h"

namespace engram {
namespace {

constexpr uint32_t kRows = 3072;  // 64 tokens of a layer of V4.1, twice: fits the second cache

struct Shape {
  const char* name;
  RowValues values;
  uint32_t dim;
  uint32_t row_bytes;
};
constexpr Shape kShapes[] = {{"e4m3_ue8m0_264B", RowValues::kE4m3Ue8m0, 256, 264},
                             {"e4m3_160B", RowValues::kE4m3, 160, 160},
                             {"fp16_512B", RowValues::kFp16, 256, 512},
                             {"fp32_1024B", RowValues::kFp32, 256, 1024},
                             {"bf16_512B", RowValues::kBf16, 256, 512}};

void Dequantize(benchmark::State& state, Shape shape, DequantizeRowsOnHost run, bool distinct) {
  std::mt19937 random(1);
  std::vector<uint8_t> rows(size_t{kRows} * shape.row_bytes);
  for (uint8_t& byte : rows) byte = static_cast<uint8_t>(random());
  if (shape.values == RowValues::kE4m3Ue8m0) {  // scales as checkpoints have them
    for (uint32_t row = 0; row < kRows; ++row) {
      for (uint32_t b = 0; b < 8; ++b) rows[row * 264 + 256 + b] = 110 + random() % 16;
    }
  }
  std::vector<uint32_t> inverse(kRows);
  for (uint32_t& row : inverse) row = random() % kRows;
  std::vector<uint16_t> out(size_t{kRows} * shape.dim);
  const DequantizeArguments arguments{.values = shape.values,
                                      .dim = shape.dim,
                                      .row_bytes = shape.row_bytes,
                                      .rows = reinterpret_cast<const std::byte*>(rows.data()),
                                      .row_count = kRows,
                                      .inverse = distinct ? inverse.data() : nullptr,
                                      .places = kRows,
                                      .columns = 24,
                                      .token_stride = 24 * shape.dim,
                                      .out = out.data()};
  const E4m3Table table = {};
  for (auto _ : state) {
    benchmark::DoNotOptimize(run(arguments, table));
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kRows);
  state.SetBytesProcessed(state.iterations() * kRows * (shape.row_bytes + 2 * shape.dim));
}

}  // namespace
}  // namespace engram

int main(int argc, char** argv) {
  for (const engram::Shape& shape : engram::kShapes) {
    for (const engram::NamedDequantize& variant : engram::DequantizeVariants()) {
      if (!variant.supported) continue;
      const std::string name = std::string(shape.name) + "/" + variant.name;
      benchmark::RegisterBenchmark(name.c_str(), engram::Dequantize, shape, variant.run, false);
    }
  }
  benchmark::RegisterBenchmark("e4m3_ue8m0_264B/by_inverse", engram::Dequantize, engram::kShapes[0],
                               engram::ChooseDequantize(), true);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
