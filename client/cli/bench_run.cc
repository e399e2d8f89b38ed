#include "client/cli/bench_run.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <deque>
#include <new>
#include <system_error>
#include <thread>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "client/cli/support/dense_rows.h"
#include "memstore/base/clock.h"

namespace engram::cli {
namespace {

// Different batches a client goes round, so that rows do not stay in the CPU's caches; bounded by
// memory.
constexpr uint64_t kMaxBatches = 1024;
constexpr uint64_t kMaxPlannedRows = 8 << 20;
// Times that all threads keep together. A thread that has its share drops every second one, and
// from then on keeps every second batch's, and so on: the shares stay what they are.
constexpr size_t kMaxTimes = 1 << 24;
constexpr absl::Duration kBatchDeadline = absl::Seconds(30);
// Before the clock starts: connections, page faults, the allocator's pools.
constexpr uint64_t kWarmUpBatches = 3;

ColumnSlice SliceOf(const BenchSetting& setting, const Manifest& table_set) {
  return setting.slice.value_or(ColumnSlice::All(table_set.scheme.Columns()));
}

// As a plan takes them: without a slice it is asked for as before there were any.
std::vector<ColumnSlice> PlanSlices(const BenchSetting& setting, const Manifest& table_set) {
  if (!setting.slice) return {};
  return std::vector<ColumnSlice>(table_set.layers.size(), *setting.slice);
}

struct Batch {
  SequenceState state;  // before its tokens
  BenchTokens tokens;
  Client::Plan plan;
};

// The times of many batches in bounded memory.
class Times {
 public:
  explicit Times(size_t most) : most_(std::max<size_t>(most, 2) & ~size_t{1}) {}
  void Add(double us) {
    if (count_++ % stride_ != 0) return;
    if (kept_.size() == most_) {
      for (size_t i = 0; i < most_ / 2; ++i) kept_[i] = kept_[2 * i];
      kept_.resize(most_ / 2);
      stride_ *= 2;
    }
    kept_.push_back(us);
  }
  uint64_t count() const { return count_; }
  const std::vector<double>& kept() const { return kept_; }

 private:
  const size_t most_;  // even: what comes after a halving is in the wider stride
  uint64_t count_ = 0;
  uint64_t stride_ = 1;
  std::vector<double> kept_;
};

// The batches of one client, in the order in which it asks for them.
class Batches {
 public:
  // Cuts them from `tokens` beginning at `first`, going round at the end.
  static absl::StatusOr<Batches> Cut(const Client& client, const BenchTokens& tokens,
                                     const BenchSetting& setting, uint64_t first,
                                     uint64_t max_rows) {
    const uint64_t batch_tokens = setting.batch_tokens;
    const Manifest& set = client.table_set();
    const std::vector<ColumnSlice> slices = PlanSlices(setting, set);
    const uint64_t rows = batch_tokens * TokenRows(set, SliceOf(setting, set));
    const uint64_t there = tokens.ids.size() / batch_tokens;
    const uint64_t wanted = std::clamp<uint64_t>(max_rows / rows, 1, std::min(there, kMaxBatches));
    Batches cut;
    cut.all_.resize(wanted);
    for (uint64_t i = 0; i < wanted; ++i) {
      Batch& batch = cut.all_[i];
      const uint64_t at = (first + i) % there * batch_tokens;
      const uint64_t history = std::min<uint64_t>(at, set.scheme.Lookback());
      batch.state = Addresser::Start();
      batch.tokens = tokens.Part(at, batch_tokens);
      const BenchTokens before = tokens.Part(at - history, history);
      absl::Status status = client.addresser().Advance(before.ids, before.dead, &batch.state);
      if (status.ok()) {
        status = client.PlanTokens(batch.state, batch.tokens.ids, batch.tokens.dead, &batch.plan,
                                   slices);
      }
      if (!status.ok()) return status;
    }
    return cut;
  }
  const Batch& at(uint64_t i) const { return all_[i % all_.size()]; }

  // Sampled over the batches, since a large one takes long to count.
  double DistinctShare() const {
    uint64_t rows = 0, distinct = 0;
    for (size_t i = 0; i < all_.size() && rows < kMaxPlannedRows / 8; ++i) {
      for (const std::vector<RowId>& ids : all_[i].plan.row_ids) {
        rows += ids.size();
        distinct += absl::flat_hash_set<RowId>(ids.begin(), ids.end()).size();
      }
    }
    return static_cast<double>(distinct) / static_cast<double>(rows);
  }

 private:
  std::vector<Batch> all_;
};

// One client's thread: keeps some batches in flight, each in memory of its own, and waits for the
// oldest. Batches of one size finish in the order in which they were asked for, or nearly so.
class Lane {
 public:
  // `setting.rounds` are its own here.
  Lane(Client* client, const Batches* batches, uint64_t in_flight, const BenchSetting& setting,
       Clock& clock, size_t max_times)
      : client_(client),
        batches_(batches),
        setting_(setting),
        clock_(clock),
        slices_(PlanSlices(setting, client->table_set())),
        slots_(in_flight),
        times_(max_times) {
    const Manifest& set = client->table_set();
    const ColumnSlice slice = SliceOf(setting, set);
    for (Slot& slot : slots_) {
      slot.rows.resize(setting.batch_tokens * TokenBytes(set, slice));
      slot.landings = DenseLandings(set, slice, slot.rows.data());
    }
  }

  absl::Status Run(const std::atomic<bool>& stop) {
    for (Slot& slot : slots_) {
      if (absl::Status status = client_->Register(absl::MakeSpan(slot.rows)); !status.ok()) {
        return status;
      }
    }
    absl::Status status = Loop(stop);
    for (; oldest_ != next_; ++oldest_) client_->Reap(SlotOf(oldest_).ticket);
    for (Slot& slot : slots_) status.Update(client_->Unregister(absl::MakeSpan(slot.rows)));
    return status;
  }

  const Times& times() const { return times_; }
  double seconds() const { return seconds_; }

 private:
  struct Slot {
    std::vector<std::byte> rows;
    std::vector<Landing> landings;
    Client::Plan plan;
    Ticket ticket;
    MonotonicTime begin;
  };
  Slot& SlotOf(uint64_t i) { return slots_[i % slots_.size()]; }

  absl::Status Loop(const std::atomic<bool>& stop) {
    for (uint64_t i = 0; i < kWarmUpBatches * slots_.size(); ++i) {
      absl::Status status = Submit();
      if (status.ok() && next_ - oldest_ == slots_.size()) status = FinishOldest(false);
      if (!status.ok()) return status;
    }
    while (oldest_ != next_) {
      if (absl::Status status = FinishOldest(false); !status.ok()) return status;
    }
    const MonotonicTime begin = clock_.Now();
    const MonotonicTime end = begin + absl::Seconds(setting_.seconds);
    const uint64_t first = next_;
    const auto more = [&] {
      if (next_ == first) return true;
      if (stop.load(std::memory_order_relaxed)) return false;
      return setting_.rounds > 0 ? next_ - first < setting_.rounds : clock_.Now() < end;
    };
    while (true) {
      while (next_ - oldest_ < slots_.size() && more()) {
        if (absl::Status status = Submit(); !status.ok()) return status;
      }
      if (oldest_ == next_) break;
      if (absl::Status status = FinishOldest(true); !status.ok()) return status;
    }
    seconds_ = absl::ToDoubleSeconds(clock_.Now() - begin);
    return absl::OkStatus();
  }

  absl::Status Submit() {
    Slot& slot = SlotOf(next_);
    const Batch& batch = batches_->at(next_);
    slot.begin = clock_.Now();
    const Client::Plan* plan = &batch.plan;
    if (setting_.from_token_ids) {
      absl::Status status = client_->PlanTokens(batch.state, batch.tokens.ids, batch.tokens.dead,
                                                &slot.plan, slices_);
      if (!status.ok()) return status;
      plan = &slot.plan;
    }
    const absl::StatusOr<Ticket> ticket =
        client_->Submit(*plan, slot.landings, clock_.After(kBatchDeadline));
    if (!ticket.ok()) return ticket.status();
    slot.ticket = *ticket;
    ++next_;
    return absl::OkStatus();
  }

  absl::Status FinishOldest(bool counted) {
    Slot& slot = SlotOf(oldest_);
    absl::Status landed = client_->Wait(slot.ticket);
    const MonotonicTime end = clock_.Now();
    if (!landed.ok()) return landed;
    client_->Reap(slot.ticket);
    ++oldest_;
    if (counted) times_.Add(absl::ToDoubleMicroseconds(end - slot.begin));
    return absl::OkStatus();
  }

  Client* const client_;
  const Batches* const batches_;
  const BenchSetting setting_;
  Clock& clock_;
  const std::vector<ColumnSlice> slices_;
  std::vector<Slot> slots_;
  uint64_t next_ = 0, oldest_ = 0;  // batches submitted and finished
  Times times_;
  double seconds_ = 0;
};

double Percentile(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::clamp<size_t>(rank, 1, sorted.size()) - 1];
}

BenchResult Summarize(const std::deque<Lane>& lanes, double batch_rows, double batch_bytes) {
  BenchResult result;
  std::vector<double> all;
  for (const Lane& lane : lanes) {
    all.insert(all.end(), lane.times().kept().begin(), lane.times().kept().end());
    result.rounds += lane.times().count();
    const double per_s = static_cast<double>(lane.times().count()) / lane.seconds();
    result.rows_per_s += per_s * batch_rows;
    result.gb_per_s += per_s * batch_bytes / 1e9;
  }
  std::sort(all.begin(), all.end());
  result.p50_us = Percentile(all, 0.5);
  result.p99_us = Percentile(all, 0.99);
  result.p999_us = Percentile(all, 0.999);
  return result;
}

// Runs every lane in a thread of its own; what is thrown there, or here, ends them all.
absl::Status RunAll(std::deque<Lane>* lanes) {
  std::atomic<bool> stop{false};
  std::vector<absl::Status> statuses(lanes->size());
  const auto run = [&](size_t i) {
    try {
      statuses[i] = (*lanes)[i].Run(stop);
    } catch (const std::bad_alloc&) {
      statuses[i] = absl::ResourceExhaustedError("out of memory");
    }
    if (!statuses[i].ok()) stop.store(true, std::memory_order_relaxed);
  };
  absl::Status started;
  std::vector<std::thread> threads;
  threads.reserve(lanes->size());
  for (size_t i = 0; i < lanes->size() && started.ok(); ++i) {
    try {
      threads.emplace_back(run, i);
      pthread_setname_np(threads.back().native_handle(), "bench");
    } catch (const std::system_error& error) {
      started = absl::ResourceExhaustedError(absl::StrCat("thread ", i + 1, " of ", lanes->size(),
                                                          " cannot be started (", error.what(),
                                                          "): give fewer --clients"));
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
  const ColumnSlice slice = SliceOf(setting, table_set);
  const uint64_t plan_bytes = TokenRows(table_set, slice) * sizeof(RowId);
  const uint64_t lane_bytes =
      TokenBytes(table_set, slice) + (setting.from_token_ids ? plan_bytes : 0);
  // Each client has one planned batch at least.
  return clients * setting.batch_tokens * (setting.in_flight * lane_bytes + plan_bytes);
}

absl::StatusOr<BenchResult> RunBench(absl::Span<const std::shared_ptr<Client>> clients,
                                     const BenchTokens& tokens, const BenchSetting& setting,
                                     Clock& clock) {
  if (setting.batch_tokens == 0 || tokens.ids.size() < setting.batch_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a batch of ", setting.batch_tokens, " tokens cannot be cut from ", tokens.ids.size()));
  }
  const uint64_t in_flight =
      clients[0]->transport().capabilities().lands_asynchronously ? setting.in_flight : 1;
  std::vector<Batches> batches;
  for (size_t i = 0; i < clients.size(); ++i) {
    const uint64_t first = tokens.ids.size() / setting.batch_tokens * i / clients.size();
    absl::StatusOr<Batches> cut =
        Batches::Cut(*clients[i], tokens, setting, first, kMaxPlannedRows / clients.size());
    if (!cut.ok()) return cut.status();
    batches.push_back(*std::move(cut));
  }
  // A lane without a round would not be measured.
  const uint64_t count =
      setting.rounds > 0 ? std::min<uint64_t>(setting.rounds, clients.size()) : clients.size();
  std::deque<Lane> lanes;
  for (uint64_t i = 0; i < count; ++i) {
    BenchSetting own = setting;
    own.rounds = setting.rounds / count + (i < setting.rounds % count ? 1 : 0);
    lanes.emplace_back(clients[i].get(), &batches[i], in_flight, own, clock, kMaxTimes / count);
  }
  if (absl::Status status = RunAll(&lanes); !status.ok()) return status;
  const Manifest& table_set = clients[0]->table_set();
  const auto batch_tokens = static_cast<double>(setting.batch_tokens);
  const ColumnSlice slice = SliceOf(setting, table_set);
  BenchResult result =
      Summarize(lanes, batch_tokens * static_cast<double>(TokenRows(table_set, slice)),
                batch_tokens * static_cast<double>(TokenBytes(table_set, slice)));
  result.distinct_share = batches[0].DistinctShare();
  return result;
}

}  // namespace engram::cli
