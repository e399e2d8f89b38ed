#include "client/cli/bench_run.h"

#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <deque>
#include <new>
#include <system_error>
#include <thread>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/cli/dense_rows.h"

namespace engram::cli {
namespace {

using Clock = std::chrono::steady_clock;

// Different batches a client goes round, so that rows do not stay in the CPU's caches; bounded by
// memory.
constexpr uint64_t kMaxBatches = 1024;
constexpr uint64_t kMaxPlannedRows = 8 << 20;
// Times that a client keeps. Beyond it every second one is dropped, and from then on every second
// batch's is not kept, and so on: the shares stay what they are.
constexpr size_t kMaxTimes = 1 << 20;
// Between two looks at the batches in flight: short beside a round trip, and long enough that the
// look does not take the cores from what carries the rows.
constexpr std::chrono::microseconds kLookInterval{5};
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
  bool in_flight = false;
  Clock::time_point begin;
};

// The times of many batches in bounded memory.
class Times {
 public:
  void Add(double us) {
    if (count_++ % stride_ != 0) return;
    if (kept_.size() == kMaxTimes) {
      for (size_t i = 0; i < kMaxTimes / 2; ++i) kept_[i] = kept_[2 * i];
      kept_.resize(kMaxTimes / 2);
      stride_ *= 2;
    }
    kept_.push_back(us);
  }
  uint64_t count() const { return count_; }
  const std::vector<double>& kept() const { return kept_; }

 private:
  uint64_t count_ = 0;
  uint64_t stride_ = 1;
  std::vector<double> kept_;
};

class Worker {
 public:
  // `setting.rounds` are its own here.
  Worker(Client* client, const BenchSetting& setting)
      : client_(client),
        setting_(setting),
        token_bytes_(TokenBytes(client->table_set())),
        token_rows_(TokenRows(client->table_set())) {}

  // Cuts batches from `token_ids` beginning at `first`, going round at the end.
  absl::Status Prepare(absl::Span<const int32_t> token_ids, uint64_t first, uint64_t clients) {
    const uint64_t rows = setting_.batch_tokens * token_rows_;
    const uint64_t there = token_ids.size() / setting_.batch_tokens;
    const uint64_t batches =
        std::clamp<uint64_t>(kMaxPlannedRows / clients / rows, 1, std::min(there, kMaxBatches));
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
    for (Slot& slot : slots_) {
      slot.rows.resize(batch_bytes());
      slot.landings = DenseLandings(client_->table_set(), slot.rows.data());
    }
    return absl::OkStatus();
  }

  absl::Status Run(const std::atomic<bool>& stop) {
    absl::Status status = Loop(stop);
    for (Slot& slot : slots_) {
      if (slot.in_flight) client_->Reap(slot.ticket);
    }
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

  const Times& times() const { return times_; }
  double seconds() const { return seconds_; }
  uint64_t batch_rows() const { return setting_.batch_tokens * token_rows_; }
  uint64_t batch_bytes() const { return setting_.batch_tokens * token_bytes_; }

 private:
  absl::Status Submit(Slot* slot) {
    const Batch& batch = batches_[submitted_ % batches_.size()];
    slot->begin = Clock::now();
    const Client::Plan* plan = &batch.plan;
    if (setting_.from_token_ids) {
      absl::Status status = client_->PlanTokens(batch.state, batch.token_ids, {}, &slot->plan);
      if (!status.ok()) return status;
      plan = &slot->plan;
    }
    const absl::StatusOr<Ticket> ticket =
        client_->Submit(*plan, slot->landings, absl::Now() + kBatchDeadline);
    if (!ticket.ok()) return ticket.status();
    slot->ticket = *ticket;
    slot->in_flight = true;
    ++submitted_;
    return absl::OkStatus();
  }

  absl::Status Finish(Slot* slot) {
    absl::Status landed = client_->Wait(slot->ticket);
    const auto end = Clock::now();
    if (!landed.ok()) return landed;
    client_->Reap(slot->ticket);
    slot->in_flight = false;
    times_.Add(std::chrono::duration<double, std::micro>(end - slot->begin).count());
    return absl::OkStatus();
  }

  // Submits to every slot that is free, while `more`, and finishes those whose batches have ended;
  // `*changed` when there was one.
  absl::Status GoRound(bool more, bool* changed) {
    for (Slot& slot : slots_) {
      if (!slot.in_flight) {
        if (!more || (setting_.rounds > 0 && submitted_ == setting_.rounds)) continue;
        if (absl::Status status = Submit(&slot); !status.ok()) return status;
      }
      // There is no other to look at: wait for it, which is more exact than looking.
      const bool alone = slots_.size() == 1;
      if (!alone && client_->Poll(slot.ticket) == TicketState::kInFlight) continue;
      if (absl::Status status = Finish(&slot); !status.ok()) return status;
      *changed = true;
    }
    return absl::OkStatus();
  }

  bool Idle() const {
    return std::none_of(slots_.begin(), slots_.end(),
                        [](const Slot& slot) { return slot.in_flight; });
  }

  absl::Status WarmUp() {
    for (uint64_t i = 0; i < kWarmUpBatches; ++i) {
      absl::Status status = Submit(&slots_[0]);
      if (status.ok()) status = Finish(&slots_[0]);
      if (!status.ok()) return status;
    }
    times_ = {};
    submitted_ = 0;
    return absl::OkStatus();
  }

  absl::Status Loop(const std::atomic<bool>& stop) {
    // The kernel may otherwise wake a sleeper 50 us late.
    prctl(PR_SET_TIMERSLACK, 1);
    absl::Status status = WarmUp();
    const auto begin = Clock::now();
    const auto end = begin + std::chrono::duration<double>(setting_.seconds);
    bool more = status.ok();
    while (status.ok()) {
      bool changed = false;
      status = GoRound(more, &changed);
      more = more && !stop.load(std::memory_order_relaxed) &&
             (setting_.rounds > 0 ? submitted_ < setting_.rounds : Clock::now() < end);
      if (!more && Idle()) break;
      if (!changed) std::this_thread::sleep_for(kLookInterval);
    }
    seconds_ = std::chrono::duration<double>(Clock::now() - begin).count();
    return status;
  }

  Client* const client_;
  const BenchSetting setting_;
  const uint64_t token_bytes_;
  const uint64_t token_rows_;
  std::vector<Batch> batches_;
  std::vector<Slot> slots_;
  uint64_t submitted_ = 0;
  Times times_;
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
    all.insert(all.end(), worker.times().kept().begin(), worker.times().kept().end());
    result.rounds += worker.times().count();
    const double per_s = static_cast<double>(worker.times().count()) / worker.seconds();
    result.rows_per_s += per_s * static_cast<double>(worker.batch_rows());
    result.gb_per_s += per_s * static_cast<double>(worker.batch_bytes()) / 1e9;
  }
  std::sort(all.begin(), all.end());
  result.p50_us = Percentile(all, 0.5);
  result.p99_us = Percentile(all, 0.99);
  result.p999_us = Percentile(all, 0.999);
  result.distinct_share = workers.front().DistinctShare();
  return result;
}

// Runs every worker in a thread of its own; what is thrown there, or here, ends them all.
absl::Status RunAll(std::deque<Worker>* workers) {
  std::atomic<bool> stop{false};
  std::vector<absl::Status> statuses(workers->size());
  const auto run = [&](size_t i) {
    try {
      statuses[i] = (*workers)[i].Run(stop);
    } catch (const std::bad_alloc&) {
      statuses[i] = absl::ResourceExhaustedError("out of memory");
    }
    if (!statuses[i].ok()) stop.store(true, std::memory_order_relaxed);
  };
  absl::Status started;
  std::vector<std::thread> threads;
  threads.reserve(workers->size());
  for (size_t i = 0; i < workers->size() && started.ok(); ++i) {
    try {
      threads.emplace_back(run, i);
      pthread_setname_np(threads.back().native_handle(), "bench");
    } catch (const std::system_error& error) {
      started = absl::ResourceExhaustedError(absl::StrCat("the thread of client ", i + 1, " of ",
                                                          workers->size(), " cannot be started (",
                                                          error.what(), "): give fewer --clients"));
      stop.store(true, std::memory_order_relaxed);
    }
  }
  for (std::thread& thread : threads) thread.join();
  if (!started.ok()) return started;
  for (const absl::Status& status : statuses) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t BenchBytes(const Manifest& table_set, const BenchSetting& setting, uint64_t clients) {
  const uint64_t plan_bytes = TokenRows(table_set) * sizeof(RowId);
  const uint64_t slot_bytes = TokenBytes(table_set) + (setting.from_token_ids ? plan_bytes : 0);
  // Each client has one planned batch at least.
  return clients * setting.batch_tokens * (setting.in_flight * slot_bytes + plan_bytes);
}

absl::StatusOr<BenchResult> RunBench(absl::Span<const std::shared_ptr<Client>> clients,
                                     absl::Span<const int32_t> token_ids,
                                     const BenchSetting& setting) {
  if (setting.batch_tokens == 0 || token_ids.size() < setting.batch_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a batch of ", setting.batch_tokens, " tokens cannot be cut from ", token_ids.size()));
  }
  // A client without a round would not be measured.
  const uint64_t workers_wanted =
      setting.rounds > 0 ? std::min<uint64_t>(setting.rounds, clients.size()) : clients.size();
  std::deque<Worker> workers;
  for (size_t i = 0; i < workers_wanted; ++i) {
    BenchSetting own = setting;
    own.rounds = setting.rounds / workers_wanted + (i < setting.rounds % workers_wanted ? 1 : 0);
    workers.emplace_back(clients[i].get(), own);
    const uint64_t first = token_ids.size() / setting.batch_tokens * i / workers_wanted;
    absl::Status status = workers.back().Prepare(token_ids, first, workers_wanted);
    if (!status.ok()) return status;
  }
  if (absl::Status status = RunAll(&workers); !status.ok()) return status;
  return Summarize(workers);
}

}  // namespace engram::cli
