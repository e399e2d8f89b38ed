// What reading the headers of a large checkpoint takes, and comparing the constants that it stores:
// what a pack, and each start of engramd --checkpoint, does before the first row. The files are in
// the page cache.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/addressing/families.h"
#include "memstore/pack/checkpoint_layout.h"
#include "memstore/pack/checkpoint_scheme.h"
#include "memstore/pack/pack_options.h"
#include "memstore/pack/testing/small_checkpoint.h"
#include "memstore/safetensors/checkpoint.h"

namespace engram {
namespace {

namespace fs = std::filesystem;
using testing_checkpoint::FileText;
using testing_checkpoint::Numbers;
using testing_checkpoint::Tensor;
using testing_checkpoint::WriteText;

// As large mixture-of-experts models are cut: some hundred files, thousands of tensors in each.
constexpr size_t kFiles = 200;
constexpr size_t kHeaderBytes = 1u << 20;
constexpr uint64_t kRowsPerHead = 1000;
constexpr char kStem[] = "model.language_model.layers.1.ple.ple_embedding.";

const Family& Qwen() { return **FindFamily("qwen4-exp"); }

// These tensors, and as many others as the header has room for.
std::string FileOf(size_t number, const std::vector<Tensor>& tensors) {
  std::string header = "{", data;
  const auto add = [&](const Tensor& tensor) {
    absl::StrAppend(&header, header.size() > 1 ? "," : "", "\"", tensor.name, "\":{\"dtype\":\"",
                    tensor.dtype, "\",\"shape\":[", absl::StrJoin(tensor.shape, ","),
                    "],\"data_offsets\":[", data.size(), ",", data.size() + tensor.bytes.size(),
                    "]}");
    data += tensor.bytes;
  };
  for (const Tensor& tensor : tensors) add(tensor);
  for (size_t i = 0; header.size() < kHeaderBytes; ++i) {
    add({absl::StrCat("model.language_model.layers.", number, ".mlp.experts.", i,
                      ".down_proj.weight_scale_inv"),
         "BF16",
         {1},
         "ab"});
  }
  return FileText(header + "}", data);
}

// A checkpoint without an index, so that every header counts; gone when the process ends.
class Model {
 public:
  Model()
      : directory_(fs::temp_directory_path() /
                   absl::StrCat("checkpoint_scheme_benchmark-", getpid())) {
    fs::create_directories(directory_);
    const AddressScheme scheme = Derive(Qwen(), {kRowsPerHead, {}}).value();
    for (size_t number = 0; number < kFiles; ++number) {
      std::vector<Tensor> tensors = {
          {absl::StrCat(kStem, "ngram_embedding.shard_", number, ".weight"),
           "BF16",
           {1, 160},
           std::string(320, 'x')}};
      if (number == 0) AddConstants(scheme.layers[0], tensors);
      WriteText(directory_ / absl::StrCat("model-", number, ".safetensors"),
                FileOf(number, tensors));
    }
  }
  ~Model() {
    std::error_code error;
    fs::remove_all(directory_, error);
  }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const fs::path& directory() const { return directory_; }

 private:
  static void AddConstants(const LayerAddressing& layer, std::vector<Tensor>& tensors) {
    const auto add = [&](const char* name, const auto& numbers) {
      tensors.push_back(
          Numbers(absl::StrCat(kStem, name), std::vector<int64_t>(numbers.begin(), numbers.end())));
    };
    add("layer_multipliers", layer.multipliers);
    add("ngram_heads_vocab_sizes", layer.moduli);
    add("ngram_heads_offsets", layer.offsets);
  }

  const fs::path directory_;
};

const fs::path& ModelDirectory() {
  static const Model model;
  return model.directory();
}

void SetCounters(benchmark::State& state) {
  const auto headers = static_cast<int64_t>(state.iterations() * kFiles);
  state.SetItemsProcessed(headers);
  state.SetBytesProcessed(headers * static_cast<int64_t>(kHeaderBytes));
}

void BM_OpenCheckpoint(benchmark::State& state) {
  const std::string directory = ModelDirectory();
  const WantedTensor tables = TableTensors(Qwen());
  for (auto _ : state) {
    const absl::StatusOr<Checkpoint> opened = Checkpoint::Open(directory, tables);
    if (!opened.ok()) return state.SkipWithError(opened.status().ToString().c_str());
  }
  SetCounters(state);
}
BENCHMARK(BM_OpenCheckpoint)->Unit(benchmark::kMillisecond)->UseRealTime();

// The same, with all that is held against what the headers say.
void BM_ReadCheckpointScheme(benchmark::State& state) {
  const std::string directory = ModelDirectory();
  PackOptions options;
  options.output = fs::path(directory) / "set";
  options.rows_per_head = kRowsPerHead;
  for (auto _ : state) {
    const absl::StatusOr<CheckpointScheme> read = ReadCheckpointScheme(Qwen(), directory, options);
    if (!read.ok()) return state.SkipWithError(read.status().ToString().c_str());
  }
  SetCounters(state);
}
BENCHMARK(BM_ReadCheckpointScheme)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace engram
