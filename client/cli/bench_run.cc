#include "client/cli/bench_run.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <deque>
#include <thread>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace engram::cli {
namespace {

using Clock = std::chrono::steady_clock;

// Different batches a client goes round, so that rows do not stay in the CPU's caches; bounded by
// memory.
constexpr uint64_t kMaxBatches = 1024;
constexpr uint64_t kMaxPlannedRows = 8 << 20;
constexpr absl::Duration kBatchDeadline = absl::Seconds(30);
// Before the clock starts: connections, page faults, the allocator's pools.
constexpr uint64_t kWarmUpBatches = 3;

struct Batch {
  SequenceState state;  // before its tokens
  absl::Span<const int32_t> token_ids;
  Client::Plan plan;
};

// A batch on its way and the memory it lands in, reused once reaped.
struct Slot {
  std::vector<std::byte> rows;
  std::vector<Landing> landings;
  Client::Plan plan;
  Ticket ticket;
  Clock::time_point begin;
};

class Worker {
 public:
  Worker(Client* client, const BenchSetting& setting) : client_(client), setting_(setting) {
    const uint32_t columns = client->table_set().scheme.Columns();
    for (const LayerTableSpec& layer : client->table_set().layers) {
      token_bytes_ += uint64_t{columns} * layer.row_bytes;
    }
    token_rows_ = uint64_t{columns} * client->table_set().layers.size();
  }

  // Cuts batches from `token_ids` beginning at `first`, going round at the end.
  absl::Status Prepare(absl::Span<const int32_t> token_ids, uint64_t first) {
    const uint64_t rows = setting_.batch_tokens * token_rows_;
    const uint64_t there = token_ids.size() / setting_.batch_tokens;
    const uint64_t batches =
        std::clamp<uint64_t>(kMaxPlannedRows / rows, 1, std::min(there, kMaxBatches));
    batches_.resize(batches);
    for (uint64_t i = 0; i < batches; ++i) {
      const uint64_t at = (first + i) % there * setting_.batch_tokens;
      const uint64_t history = std::min<uint64_t>(at, client_->table_set().scheme.Lookback());
      batches_[i].state = Addresser::Start();
      batches_[i].token_ids = token_ids.subspan(at, setting_.batch_tokens);
      absl::Status status = client_->addresser().Advance(token_ids.subspan(at - history, history),
                                                         {}, &batches_[i].state);
      if (status.ok()) {
        status =
            client_->PlanTokens(batches_[i].state, batches_[i].token_ids, {}, &batches_[i].plan);
      }
      if (!status.ok()) return status;
    }
    slots_.resize(setting_.in_flight);
    for (Slot& slot : slots_) AllocateSlot(&slot);
    return absl::OkStatus();
  }

  absl::Status Run(const std::atomic<bool>& stop) {
    absl::Status status = Loop(stop);
    for (; oldest_ != next_; ++oldest_) client_->Reap(slots_[oldest_ % slots_.size()].ticket);
    return status;
  }

  // Sampled over the batches, since a large one takes long to count.
  double DistinctShare() const {
    uint64_t rows = 0, distinct = 0;
    for (uint64_t i = 0; i < batches_.size() && rows < kMaxPlannedRows / 8; ++i) {
      for (const std::vector<RowId>& ids : batches_[i].plan.row_ids) {
        rows += ids.size();
        distinct += absl::flat_hash_set<RowId>(ids.begin(), ids.end()).size();
      }
    }
    return static_cast<double>(distinct) / static_cast<double>(rows);
  }

  const std::vector<double>& latencies_us() const { return latencies_us_; }
  double seconds() const { return seconds_; }
  uint64_t batch_rows() const { return setting_.batch_tokens * token_rows_; }
  uint64_t batch_bytes() const { return setting_.batch_tokens * token_bytes_; }

 private:
  void AllocateSlot(Slot* slot) {
    slot->rows.resize(batch_bytes());
    uint64_t offset = 0;
    const uint32_t columns = client_->table_set().scheme.Columns();
    for (const LayerTableSpec& layer : client_->table_set().layers) {
      slot->landings.push_back({.data = slot->rows.data() + offset,
                                .group_rows = columns,
                                .group_stride_bytes = token_bytes_});
      offset += uint64_t{columns} * layer.row_bytes;
    }
  }

  absl::Status Submit() {
    Slot& slot = slots_[next_ % slots_.size()];
    const Batch& batch = batches_[next_ % batches_.size()];
    slot.begin = Clock::now();
    const Client::Plan* plan = &batch.plan;
    if (setting_.from_token_ids) {
      absl::Status status = client_->PlanTokens(batch.state, batch.token_ids, {}, &slot.plan);
      if (!status.ok()) return status;
      plan = &slot.plan;
    }
    const absl::StatusOr<Ticket> ticket =
        client_->Submit(*plan, slot.landings, absl::Now() + kBatchDeadline);
    if (!ticket.ok()) return ticket.status();
    slot.ticket = *ticket;
    ++next_;
    return absl::OkStatus();
  }

  absl::Status FinishOldest(bool counted) {
    Slot& slot = slots_[oldest_ % slots_.size()];
    absl::Status landed = client_->Wait(slot.ticket);
    const auto end = Clock::now();
    if (!landed.ok()) return landed;
    client_->Reap(slot.ticket);
    ++oldest_;
    if (counted) {
      latencies_us_.push_back(std::chrono::duration<double, std::micro>(end - slot.begin).count());
    }
    return absl::OkStatus();
  }

  absl::Status Loop(const std::atomic<bool>& stop) {
    absl::Status status;
    for (uint64_t i = 0; status.ok() && i < kWarmUpBatches; ++i) {
      status = Submit();
      if (status.ok()) status = FinishOldest(/*counted=*/false);
    }
    const auto begin = Clock::now();
    const auto end = begin + std::chrono::duration<double>(setting_.seconds);
    while (status.ok() && !stop.load(std::memory_order_relaxed) &&
           (latencies_us_.empty() || Clock::now() < end)) {
      while (status.ok() && next_ - oldest_ < slots_.size()) status = Submit();
      if (status.ok()) status = FinishOldest(/*counted=*/true);
    }
    while (status.ok() && oldest_ != next_) status = FinishOldest(/*counted=*/true);
    seconds_ = std::chrono::duration<double>(Clock::now() - begin).count();
    return status;
  }

  Client* const client_;
  const BenchSetting setting_;
  uint64_t token_bytes_ = 0;
  uint64_t token_rows_ = 0;
  std::vector<Batch> batches_;
  std::vector<Slot> slots_;
  uint64_t next_ = 0, oldest_ = 0;  // batches submitted and finished
  std::vector<double> latencies_us_;
  double seconds_ = 0;
};

double Percentile(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::clamp<size_t>(rank, 1, sorted.size()) - 1];
}

BenchResult Summarize(const std::deque<Worker>& workers) {
  BenchResult result;
  std::vector<double> all;
  for (const Worker& worker : workers) {
    all.insert(all.end(), worker.latencies_us().begin(), worker.latencies_us().end());
    const double per_s = static_cast<double>(worker.latencies_us().size()) / worker.seconds();
    result.rows_per_s += per_s * static_cast<double>(worker.batch_rows());
    result.gb_per_s += per_s * static_cast<double>(worker.batch_bytes()) / 1e9;
  }
  std::sort(all.begin(), all.end());
  result.rounds = all.size();
  result.p50_us = Percentile(all, 0.5);
  result.p99_us = Percentile(all, 0.99);
  result.p999_us = Percentile(all, 0.999);
  result.distinct_share = workers.front().DistinctShare();
  return result;
}

}  // namespace

absl::StatusOr<BenchResult> RunBench(absl::Span<const std::shared_ptr<Client>> clients,
                                     absl::Span<const int32_t> token_ids,
                                     const BenchSetting& setting) {
  if (setting.batch_tokens == 0 || token_ids.size() < setting.batch_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a batch of ", setting.batch_tokens, " tokens cannot be cut from ", token_ids.size()));
  }
  std::deque<Worker> workers;
  for (size_t i = 0; i < clients.size(); ++i) {
    workers.emplace_back(clients[i].get(), setting);
    const uint64_t first = token_ids.size() / setting.batch_tokens * i / clients.size();
    if (absl::Status status = workers.back().Prepare(token_ids, first); !status.ok()) return status;
  }
  std::atomic<bool> stop{false};
  std::vector<absl::Status> statuses(workers.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < workers.size(); ++i) {
    threads.emplace_back([&, i] {
      statuses[i] = workers[i].Run(stop);
      if (!statuses[i].ok()) stop.store(true, std::memory_order_relaxed);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : statuses) {
    if (!status.ok()) return status;
  }
  return Summarize(workers);
}

}  // namespace engram::cli
