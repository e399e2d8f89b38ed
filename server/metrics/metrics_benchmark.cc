// What counting one batch costs: all that a stream's batch records, without the clock's reads.
#include <benchmark/benchmark.h>

#include "server/metrics/metrics.h"

namespace engram {
namespace {

void BM_CountABatch(benchmark::State& state) {
  Metrics metrics;
  const auto thread = metrics.NewThread();
  auto took = std::chrono::nanoseconds(20000);
  for (auto _ : state) {
    benchmark::DoNotOptimize(took);
    thread->Began();
    thread->Took(Stage::kPlan, took);
    thread->Took(Stage::kQueue, took);
    thread->Took(Stage::kGather, took);
    thread->Took(Stage::kSend, took);
    thread->Answered(Path::kGrpcStream, absl::StatusCode::kOk, 1536, 1 << 18, took);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_CountABatch);

void BM_CountABatchWithTheClock(benchmark::State& state) {
  using Clock = std::chrono::steady_clock;
  Metrics metrics;
  const auto thread = metrics.NewThread();
  for (auto _ : state) {
    thread->Began();
    const Clock::time_point read = Clock::now();
    const Clock::time_point planned = Clock::now();
    thread->Took(Stage::kPlan, planned - read);
    const Clock::time_point turn = Clock::now();
    thread->Took(Stage::kQueue, turn - planned);
    const Clock::time_point gathered = Clock::now();
    thread->Took(Stage::kGather, gathered - turn);
    thread->Answered(Path::kGrpcStream, absl::StatusCode::kOk, 1536, 1 << 18, gathered - read);
    thread->Took(Stage::kSend, Clock::now() - gathered);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_CountABatchWithTheClock);

void BM_Scrape(benchmark::State& state) {
  Metrics metrics;
  std::vector<std::shared_ptr<ThreadMetrics>> threads;
  for (int i = 0; i < 16; ++i) threads.push_back(metrics.NewThread());
  for (auto _ : state) benchmark::DoNotOptimize(metrics.Sum());
}
BENCHMARK(BM_Scrape);

}  // namespace
}  // namespace engram
