// What counting one batch costs: all that a batch records; and the same with the clock's reads that
// nobody but the counters needs. Of a stream's batch that is one (when it was planned: turns,
// deadlines and idleness need the others), of a unary call four.
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
    thread->RecordLatency(Stage::kPlan, took);
    thread->RecordLatency(Stage::kQueue, took);
    thread->RecordLatency(Stage::kGather, took);
    thread->RecordLatency(Stage::kSend, took);
    thread->Answered(Path::kGrpcStream, absl::StatusCode::kOk, 1536, 1 << 18, took);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_CountABatch);

void BM_CountABatchWithTheClock(benchmark::State& state) {
  using Clock = std::chrono::steady_clock;
  Metrics metrics;
  const auto thread = metrics.NewThread();
  const Path path = state.range(0) == 1 ? Path::kGrpcStream : Path::kGrpcUnary;
  Clock::time_point times[4] = {};
  for (auto _ : state) {
    for (int64_t i = 0; i < state.range(0); ++i) times[i] = Clock::now();
    benchmark::DoNotOptimize(times);
    thread->Began();
    thread->RecordLatency(Stage::kPlan, times[0] - times[1]);
    thread->RecordLatency(Stage::kQueue, times[1] - times[2]);
    thread->RecordLatency(Stage::kGather, times[2] - times[3]);
    thread->RecordLatency(Stage::kSend, times[3] - times[0]);
    thread->Answered(path, absl::StatusCode::kOk, 1536, 1 << 18, times[3] - times[2]);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_CountABatchWithTheClock)->ArgName("clock_reads")->Arg(1)->Arg(4);

void BM_Scrape(benchmark::State& state) {
  Metrics metrics;
  std::vector<std::shared_ptr<ThreadMetrics>> threads;
  for (int i = 0; i < 16; ++i) threads.push_back(metrics.NewThread());
  for (auto _ : state) benchmark::DoNotOptimize(metrics.Sum());
}
BENCHMARK(BM_Scrape);

}  // namespace
}  // namespace engram
