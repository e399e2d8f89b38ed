// How much of a step its stream waits for rows: one core computes, one prefetches, V4.1's two
// layers, a table of 1 GB in this process, or the one served at $ENGRAM_TARGET (shm:SOCKET). What
// the stream waits counts from the end of the blocks before a layer to the layer's start.
//
// `share_percent` is the sum of all waits over the sum of all steps; `wait_p99_us` is of a step's
// two waits together.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/transport/local/embedded_transport.h"
#include "gpu/device/device.h"
#include "gpu/prefetch/prefetcher.h"
#include "memstore/addressing/families.h"
#include "memstore/base/clock.h"
#include "memstore/pack/pack_synthetic.h"

namespace engram {
namespace {

constexpr uint32_t kBlocks = 40;  // of the model; layer 1 is behind one of them, layer 14 behind 14
constexpr uint64_t kRowsPerHead = 80000;
constexpr int kPrefillTokens = 2048;

std::shared_ptr<const TableSet> Set() {
  static const std::shared_ptr<const TableSet> set = [] {
    const std::string directory =
        std::filesystem::temp_directory_path() / absl::StrCat("engram-exposed-wait-", getpid());
    std::filesystem::remove_all(directory);
    PackOptions options;
    options.output = directory;
    options.rows_per_head = kRowsPerHead;
    options.token_map_file = "tests/golden/deepseek_v41_token_map.i32";
    PackSynthetic(*FindFamily("deepseek-v4.1-flash").value(), options).value();
    auto loaded = TableSet::Load(directory, {}).value();
    std::filesystem::remove_all(directory);
    return loaded;
  }();
  return set;
}

std::vector<int32_t> Text() {
  std::ifstream file("tests/golden/tokens_en_handbook.i32", std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  std::vector<int32_t> ids(bytes.size() / sizeof(int32_t));
  std::memcpy(ids.data(), bytes.data(), ids.size() * sizeof(int32_t));
  return ids;
}

int64_t NowNs() { return RealClock().Now().nanoseconds(); }

// One unit of a block's work: a product of two small matrices.
void Multiply() {
  constexpr int kSize = 48;
  static float a[kSize][kSize], b[kSize][kSize], c[kSize][kSize];
  for (int i = 0; i < kSize; ++i) {
    for (int k = 0; k < kSize; ++k) {
      for (int j = 0; j < kSize; ++j) c[i][j] += a[i][k] * b[k][j];
    }
  }
  benchmark::DoNotOptimize(c);
}

// Units of work that take a block's share of a step of so many milliseconds.
int UnitsABlock(double step_ms) {
  constexpr int kTries = 2000;
  const int64_t begin = NowNs();
  for (int i = 0; i < kTries; ++i) Multiply();
  return std::max(1, static_cast<int>(step_ms * 1e6 / kBlocks * kTries / (NowNs() - begin)));
}

struct Stamps {
  int64_t begin, before_first, first, before_second, second, end;
};

void EnqueueBlocks(Stream& stream, int units, int64_t* stamp) {
  if (!stream
           .LaunchOnHost([units, stamp] {
             for (int i = 0; i < units; ++i) Multiply();
             *stamp = NowNs();
           })
           .ok()) {
    std::abort();
  }
}

std::unique_ptr<Client> Attach() {
  if (const char* const target = std::getenv("ENGRAM_TARGET")) {
    return Client::Attach(target, {}).value();
  }
  return Client::Create(EmbeddedTransport::Over(Set())).value();
}

struct Bench {
  explicit Bench(uint32_t tokens)
      : device(OpenDevice(DeviceKind::kHost, {}).value()),
        client(Attach()),
        stream(device->MakeStream("compute").value()),
        prefetcher(
            Prefetcher::Create(client->transport(), *device, {.max_tokens = tokens}).value()) {}

  // The next tokens of each of so many sequences, which began at places of a text far apart.
  StepTicket Prefetch(uint32_t tokens, uint32_t sequences) {
    token_ids.resize(tokens);
    parts.resize(sequences);
    const uint32_t each = tokens / sequences;
    for (uint32_t i = 0; i < sequences; ++i) {
      const size_t first = (i * (text.size() / sequences) + step * each) % (text.size() - each);
      parts[i] = {.state = Addresser::Start(), .tokens = each};
      const size_t before = std::min<size_t>(first, kMaxOrder);
      client->addresser()
          .Advance(absl::MakeConstSpan(text).subspan(first - before, before), {}, &parts[i].state)
          .IgnoreError();
      std::copy_n(&text[first], each, &token_ids[i * each]);
    }
    ++step;
    return prefetcher
        ->Prefetch({.sequences = parts,
                    .token_ids = token_ids,
                    .deadline = RealClock().Now() + absl::Seconds(10)})
        .value();
  }
  void EnqueueStep(const StepTicket& step, int units, Stamps* stamps) {
    EnqueueBlocks(*stream, 0, &stamps->begin);
    EnqueueBlocks(*stream, units, &stamps->before_first);
    prefetcher->Wait(step, 1, *stream).IgnoreError();
    EnqueueBlocks(*stream, 0, &stamps->first);
    EnqueueBlocks(*stream, 13 * units, &stamps->before_second);
    prefetcher->Wait(step, 14, *stream).IgnoreError();
    EnqueueBlocks(*stream, 0, &stamps->second);
    EnqueueBlocks(*stream, (kBlocks - 14) * units, &stamps->end);
  }

  const std::vector<int32_t> text = Text();
  uint64_t step = 0;
  std::unique_ptr<Device> device;
  std::unique_ptr<Client> client;
  std::unique_ptr<Stream> stream;
  std::unique_ptr<Prefetcher> prefetcher;
  std::vector<int32_t> token_ids;
  std::vector<SequenceTokens> parts;
};

// tokens, step in ms, sequences; ahead: the next step is prefetched while this one runs.
void BM_ExposedWait(benchmark::State& state, bool ahead) {
  const auto tokens = static_cast<uint32_t>(state.range(0));
  const auto sequences = static_cast<uint32_t>(state.range(2));
  const int units = UnitsABlock(static_cast<double>(state.range(1)));
  Bench bench(tokens);
  std::vector<int64_t> waits;
  int64_t waited = 0, total = 0;
  StepTicket next = {};
  if (ahead) next = bench.Prefetch(tokens, sequences);
  for (auto _ : state) {
    const StepTicket step = ahead ? next : bench.Prefetch(tokens, sequences);
    if (ahead) next = bench.Prefetch(tokens, sequences);
    Stamps stamps = {};
    bench.EnqueueStep(step, units, &stamps);
    bench.stream->Synchronize().IgnoreError();
    if (!bench.prefetcher->Finish(step).ok()) state.SkipWithError("a step failed");
    waits.push_back(stamps.first - stamps.before_first + stamps.second - stamps.before_second);
    waited += waits.back();
    total += stamps.end - stamps.begin;
  }
  std::sort(waits.begin(), waits.end());
  state.counters["share_percent"] = 100.0 * waited / total;
  state.counters["step_ms"] = total / 1e6 / waits.size();
  state.counters["wait_p50_us"] = waits[waits.size() / 2] / 1e3;
  state.counters["wait_p99_us"] = waits[waits.size() * 99 / 100] / 1e3;
}
BENCHMARK_CAPTURE(BM_ExposedWait, decode, false)
    ->Args({64, 8, 64})
    ->Args({512, 50, 512})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(BM_ExposedWait, prefill_chunk_ahead, true)
    ->Args({kPrefillTokens, 50, 1})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace engram

BENCHMARK_MAIN();
