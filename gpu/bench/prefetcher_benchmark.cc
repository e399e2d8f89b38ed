// From Prefetch to rows in place, and what the call itself takes, beside the same lookup made in
// the caller's own thread. Embedded store, both layers of V4.1.
#include <benchmark/benchmark.h>

#include <memory>
#include <random>
#include <vector>

#include "client/transport/local/embedded_transport.h"
#include "gpu/device/device.h"
#include "gpu/prefetch/prefetcher.h"
#include "gpu/testing/small_steps.h"
#include "memstore/base/clock.h"

namespace engram {
namespace {

using testing::SmallV41;

constexpr uint32_t kMaxTokens = 2048;

struct Batch {
  explicit Batch(uint32_t tokens) : token_ids(tokens) {
    std::mt19937 random(1);
    // Below the image's token id, which is refused unmasked.
    for (int32_t& id : token_ids) id = random() % 129264;
    for (uint32_t i = 0; i < tokens; ++i) {
      sequences.push_back({.state = Addresser::Start(), .tokens = 1});
    }
  }
  std::vector<int32_t> token_ids;
  std::vector<SequenceTokens> sequences;
};

// A decode batch: as many sequences as tokens.
void BM_PrefetchToFinish(benchmark::State& state, PrefetcherOptions options, bool only_the_call) {
  const auto device = OpenDevice(DeviceKind::kHost, {}).value();
  const auto transport = EmbeddedTransport::Over(SmallV41());
  options.max_tokens = kMaxTokens;
  const auto prefetcher = Prefetcher::Create(*transport, *device, options).value();
  const Batch batch(static_cast<uint32_t>(state.range(0)));
  for (auto _ : state) {
    const StepTicket ticket = prefetcher
                                  ->Prefetch({.sequences = batch.sequences,
                                              .token_ids = batch.token_ids,
                                              .deadline = RealClock().Now() + absl::Seconds(10)})
                                  .value();
    if (only_the_call) state.PauseTiming();
    if (!prefetcher->Finish(ticket).ok()) state.SkipWithError("a step failed");
    if (only_the_call) state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0) * 48);
}
BENCHMARK_CAPTURE(BM_PrefetchToFinish, transport, PrefetcherOptions{}, false)
    ->Arg(1)
    ->Arg(64)
    ->Arg(512)
    ->Arg(2048)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_PrefetchToFinish, mapped, PrefetcherOptions{.path = FetchPath::kMapped}, false)
    ->Arg(1)
    ->Arg(64)
    ->Arg(512)
    ->Arg(2048)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_PrefetchToFinish, the_call_alone, PrefetcherOptions{}, true)
    ->Arg(1)
    ->Arg(64)
    ->Arg(512)
    ->Arg(2048)
    ->UseRealTime();

// All rows are held after the first steps: what looking them up and copying them out takes.
BENCHMARK_CAPTURE(BM_PrefetchToFinish, hot_cache,
                  PrefetcherOptions{.hot_cache_bytes = uint64_t{64} << 20}, false)
    ->Arg(1)
    ->Arg(64)
    ->Arg(512)
    ->Arg(2048)
    ->UseRealTime();

// The same addresses and rows without a prefetcher.
void BM_InTheCallersThread(benchmark::State& state) {
  const auto transport = EmbeddedTransport::Over(SmallV41());
  const Addresser& addresser = SmallV41()->addresser();
  const Batch batch(static_cast<uint32_t>(state.range(0)));
  const size_t rows = batch.token_ids.size() * 24;
  std::vector<RowId> ids(2 * rows);
  std::vector<std::byte> landing(2 * rows * 264);
  for (auto _ : state) {
    for (size_t i = 0; i < batch.sequences.size(); ++i) {
      const LayerRowIdsOutput outputs[] = {
          {.layer_index = 0, .rows = &ids[i * 24], .token_stride = 24},
          {.layer_index = 1, .rows = &ids[rows + i * 24], .token_stride = 24}};
      if (!addresser.Address(batch.sequences[i].state, {&batch.token_ids[i], 1}, {}, outputs)
               .ok()) {
        state.SkipWithError("a token was refused");
      }
    }
    const LayerRequest layers[] = {
        {.layer = 1, .row_ids = {ids.data(), rows}, .landing = {.data = landing.data()}},
        {.layer = 14,
         .row_ids = {ids.data() + rows, rows},
         .landing = {.data = landing.data() + rows * 264}}};
    const auto ticket = transport->Submit({.layers = layers});
    if (!ticket.ok()) state.SkipWithError("a batch failed");
    transport->Reap(*ticket);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0) * 48);
}
BENCHMARK(BM_InTheCallersThread)->Arg(1)->Arg(64)->Arg(512)->Arg(2048)->UseRealTime();

}  // namespace
}  // namespace engram

BENCHMARK_MAIN();
