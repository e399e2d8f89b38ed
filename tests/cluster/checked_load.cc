#include "tests/cluster/checked_load.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "memstore/base/check.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

constexpr int kStale = 0xA5;
// Of batches that nothing is to hurry: a cluster that is whole answers in milliseconds.
constexpr absl::Duration kPatience = absl::Seconds(10);

}  // namespace

absl::Duration LoadResult::Quantile(double share) const {
  if (latency.empty()) return absl::ZeroDuration();
  return latency[static_cast<size_t>(share * static_cast<double>(latency.size() - 1))];
}

CheckedLoad::CheckedLoad(Client& client, absl::Span<const int32_t> tokens, uint32_t batch_tokens)
    : client_(client), batches_(kBatches) {
  ENGRAM_CHECK(tokens.size() >= kBatches * batch_tokens, "too few tokens for different batches");
  Client::Plan plan;
  for (size_t i = 0; i < kBatches; ++i) {
    const absl::Span<const int32_t> ids = tokens.subspan(i * batch_tokens, batch_tokens);
    const absl::Status planned = client.PlanTokens(Addresser::Start(), ids, {}, &plan);
    EXPECT_TRUE(planned.ok()) << planned;
    batches_[i].ids = plan.row_ids;
    batches_[i].rows = ExpectedRows(client.table_set(), client.addresser(), ids);
  }
  waiter_ = std::thread([this] { WaitInTurn(); });
  checker_ = std::thread([this] { CheckInTurn(); });
}

CheckedLoad::~CheckedLoad() {
  {
    MutexLock lock(mutex_);
    over_ = true;
    changed_.NotifyAll();
  }
  waiter_.join();
  checker_.join();
}

double CheckedLoad::Capacity(size_t at_once, absl::Duration time, LoadResult* result) {
  {
    MutexLock lock(mutex_);
    most_open_ = at_once;
  }
  const MonotonicTime begin = RealClock().Now();
  MonotonicTime now = begin;
  for (; now < begin + time; now = RealClock().Now()) {
    Slot* const slot = Take();
    const MonotonicTime due = RealClock().Now();
    Send(slot, due, due + kPatience);
  }
  Settle();
  const absl::Duration took = RealClock().Now() - begin;
  {
    MutexLock lock(mutex_);
    most_open_ = kMostOpen;
  }
  *result = TakeResult();
  return static_cast<double>(result->batches) / absl::ToDoubleSeconds(took);
}

LoadResult CheckedLoad::Run(double batches_per_s, absl::Duration time, absl::Duration deadline,
                            uint64_t seed) {
  std::mt19937_64 random(seed);
  std::exponential_distribution<double> apart_s(batches_per_s);
  const MonotonicTime begin = RealClock().Now();
  MonotonicTime due = begin + absl::Seconds(apart_s(random));
  for (; due < begin + time; due += absl::Seconds(apart_s(random))) {
    const absl::Duration left = due - RealClock().Now();
    if (left > absl::ZeroDuration()) RealClock().SleepFor(left);
    Send(Take(), due, due + deadline);
  }
  Settle();
  return TakeResult();
}

CheckedLoad::Slot* CheckedLoad::TakeFree() {
  if (slots_.size() - free_.size() >= most_open_) return nullptr;
  if (free_.empty()) {
    free_.push_back(slots_.emplace_back(std::make_unique<Slot>()).get());
    free_.back()->number = slots_.size() - 1;
    free_.back()->rows.assign(batches_[0].rows.size(), std::byte{kStale});
  }
  Slot* const slot = free_.back();
  free_.pop_back();
  return slot;
}

CheckedLoad::Slot* CheckedLoad::Take() {
  MutexLock lock(mutex_);
  Slot* slot = nullptr;
  while ((slot = TakeFree()) == nullptr) changed_.Wait(mutex_);
  return slot;
}

void CheckedLoad::Send(Slot* slot, MonotonicTime due, MonotonicTime deadline) {
  slot->batch = &batches_[sent_count_++ % batches_.size()];
  slot->due = due;
  slot->status = absl::OkStatus();
  const Manifest& set = client_.table_set();
  const std::vector<Landing> landings = DenseLandings(set, slot->rows.data());
  const ColumnSlice all = ColumnSlice::All(set.scheme.Columns());
  std::vector<LayerRequest> layers;
  for (size_t i = 0; i < landings.size(); ++i) {
    layers.push_back({.layer = set.layers[i].layer,
                      .row_ids = slot->batch->ids[i],
                      .landing = landings[i],
                      .slice = &all});
  }
  const absl::StatusOr<Ticket> ticket = client_.Submit(
      BatchRequest{.layers = layers, .deadline = deadline, .sink = this, .sink_tag = slot->number});
  MutexLock lock(mutex_);
  ++result_.batches;
  if (ticket.ok()) {
    slot->ticket = *ticket;
    sent_.push_back(slot);
  } else {
    slot->ticket = Ticket();
    slot->status = ticket.status();
    ended_.push_back(slot);
  }
  changed_.NotifyAll();
}

void CheckedLoad::Settle() {
  MutexLock lock(mutex_);
  while (free_.size() < slots_.size()) changed_.Wait(mutex_);
}

void CheckedLoad::OnTicketEnded(uint64_t tag, const absl::Status&) {
  const MonotonicTime now = RealClock().Now();
  MutexLock lock(mutex_);
  slots_[tag]->ended = now;
}

void CheckedLoad::WaitInTurn() {
  MutexLock lock(mutex_);
  while (true) {
    while (sent_.empty() && !over_) changed_.Wait(mutex_);
    if (sent_.empty()) return;
    Slot* const slot = sent_.front();
    sent_.pop_front();
    lock.Unlock();
    absl::Status status = client_.Wait(slot->ticket);
    lock.Lock();
    slot->status = std::move(status);
    ended_.push_back(slot);
    changed_.NotifyAll();
  }
}

void CheckedLoad::CheckInTurn() {
  MutexLock lock(mutex_);
  while (true) {
    while (ended_.empty() && !over_) changed_.Wait(mutex_);
    if (ended_.empty()) return;
    Slot* const slot = ended_.front();
    ended_.pop_front();
    lock.Unlock();
    // When it returns the sink was told, and nobody writes to the rows.
    if (slot->ticket != Ticket()) client_.Reap(slot->ticket);
    Check(*slot);
    lock.Lock();
    free_.push_back(slot);
    changed_.NotifyAll();
  }
}

void CheckedLoad::Check(Slot& slot) {
  const std::string& expected = slot.batch->rows;
  const bool is_right = std::memcmp(slot.rows.data(), expected.data(), expected.size()) == 0;
  std::memset(slot.rows.data(), kStale, slot.rows.size());
  MutexLock lock(mutex_);
  if (slot.status.ok() && is_right) {
    result_.latency.push_back(slot.ended - slot.due);
    return;
  }
  ++(slot.status.ok() ? result_.wrong : result_.failed);
  if (!result_.first_failure.empty()) return;
  result_.first_failure = absl::StrCat(
      slot.status.ok() ? "rows that are not their own" : slot.status.ToString(), " (batch ",
      result_.batches, ", after ", absl::FormatDuration(RealClock().Now() - slot.due), ")");
}

LoadResult CheckedLoad::TakeResult() {
  MutexLock lock(mutex_);
  LoadResult result = std::exchange(result_, {});
  std::sort(result.latency.begin(), result.latency.end());
  return result;
}

}  // namespace engram::integration
