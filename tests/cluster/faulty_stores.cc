#include "tests/cluster/faulty_stores.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <deque>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace engram::integration {
namespace {

// Where no store may be faulted: until somebody looks again.
constexpr absl::Duration kLookAgain = absl::Milliseconds(50);

}  // namespace

FaultyStores::FaultyStores(Options options) : options_(std::move(options)) {
  stores_.resize(size_t{options_.partitions} * options_.replicas);
  for (size_t i = 0; i < stores_.size(); ++i) Start(i);
  for (Store& store : stores_) store.process->WaitUntilServing();
}

std::string FaultyStores::Name(size_t store) const {
  return absl::StrCat("p", store / options_.replicas, "r", store % options_.replicas);
}

std::string FaultyStores::Address(size_t store) const {
  return absl::StrCat("unix:", options_.sockets, "/", Name(store));
}

std::string FaultyStores::target() const {
  std::string target = "cluster:";
  for (size_t i = 0; i < size(); ++i) absl::StrAppend(&target, i == 0 ? "" : ",", Address(i));
  return target;
}

void FaultyStores::Start(size_t store) {
  std::vector<std::string> flags = {
      "--table-set", options_.table_set,
      "--partition", absl::StrCat(store / options_.replicas, "/", options_.partitions),
      "--listen",    Address(store)};
  flags.insert(flags.end(), options_.flags.begin(), options_.flags.end());
  stores_[store].process = std::make_unique<EngramdProcess>(flags);
}

bool FaultyStores::IsWhole(size_t store, MonotonicTime now) const {
  const Store& one = stores_[store];
  return !one.is_faulty && now >= one.serves_since + kWholeAfter;
}

std::optional<size_t> FaultyStores::Draw(MonotonicTime now, std::mt19937_64& random) const {
  std::vector<size_t> may;
  for (size_t i = 0; i < size(); ++i) {
    const size_t first = i / options_.replicas * options_.replicas;
    bool others_are_whole = true;
    for (size_t other = first; other < first + options_.replicas; ++other) {
      others_are_whole &= other == i || IsWhole(other, now);
    }
    if (others_are_whole && !stores_[i].is_faulty) may.push_back(i);
  }
  if (may.empty()) return std::nullopt;
  return may[random() % may.size()];
}

void FaultyStores::Fault(size_t store, FaultKind kind) {
  stores_[store].is_faulty = true;
  stores_[store].process->Signal(kind == FaultKind::kKill ? SIGKILL : SIGSTOP);
}

void FaultyStores::Repair(size_t store, FaultKind kind) {
  Store& one = stores_[store];
  if (kind == FaultKind::kKill) {
    one.process->WaitForEnd();
    Start(store);
    one.process->WaitUntilServing();
  } else {
    one.process->Signal(SIGCONT);
  }
  one.is_faulty = false;
  one.serves_since = RealClock().Now();
}

Faults::Faults(FaultyStores& stores, const FaultPlan& plan)
    : stores_(stores), plan_(plan), thread_([this] { Run(); }) {}

Faults::~Faults() { End(); }

uint64_t Faults::End() {
  {
    MutexLock lock(mutex_);
    ending_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
  return count_;
}

void Faults::Say(absl::string_view what, size_t store) const {
  if (!plan_.says_each) return;
  absl::FPrintF(stderr, "%7.2f s: %s %s\n", absl::ToDoubleSeconds(RealClock().Now() - begin_), what,
                stores_.Name(store));
}

void Faults::Run() {
  std::mt19937_64 random(plan_.seed);
  MonotonicTime next = begin_ + plan_.every;
  std::deque<Repair> repairs;  // ascending: all last as long
  MutexLock lock(mutex_);
  while (!ending_ || !repairs.empty()) {
    const MonotonicTime repair = repairs.empty() ? MonotonicTime::Infinite() : repairs.front().at;
    const MonotonicTime until = ending_ ? repair : std::min(next, repair);
    const bool hurries = ending_ && !repairs.empty();
    if (!hurries && RealClock().WaitUntil(changed_, mutex_, until)) continue;
    lock.Unlock();
    const MonotonicTime now = RealClock().Now();
    if (hurries || now >= repair) {
      const size_t store = repairs.front().store;
      repairs.pop_front();
      stores_.Repair(store, plan_.kind);
      Say("repaired", store);
    } else if (const auto store = stores_.Draw(now, random)) {
      stores_.Fault(*store, plan_.kind);
      Say(plan_.kind == FaultKind::kKill ? "killed" : "stopped", *store);
      repairs.push_back({*store, now + plan_.lasts});
      next += plan_.every;
      ++count_;
    } else {
      next = now + kLookAgain;
    }
    lock.Lock();
  }
}

}  // namespace engram::integration
