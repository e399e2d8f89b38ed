#include "tests/bench/cluster/timed_client.h"

#include <dirent.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "tests/integration/small_sets.h"

namespace engram::bench {
namespace {

// Different batches of a size, planned before time is taken.
constexpr size_t kPlans = 16;

template <typename T>
T OrEnd(absl::StatusOr<T> value, const std::string& who) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "cluster_costs: %s: %s\n", who.c_str(), value.status().ToString().c_str());
  std::exit(2);
}

void OrEnd(const absl::Status& status, const std::string& who) {
  OrEnd(status.ok() ? absl::StatusOr<int>(0) : absl::StatusOr<int>(status), who);
}

absl::Duration CpuOf(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return absl::DurationFromTimespec(time);
}

uint64_t SleepsOfThread(const std::string& status_path) {
  constexpr absl::string_view kName = "voluntary_ctxt_switches:";
  std::ifstream file(status_path);
  for (std::string word; file >> word;) {
    uint64_t count = 0;
    if (word == kName && file >> count) return count;
  }
  return 0;  // it has ended
}

EndCounts CountsOf(pid_t pid) {
  EndCounts counts;
  clockid_t clock{};
  if (clock_getcpuclockid(pid, &clock) == 0) counts.cpu = CpuOf(clock);
  const std::string tasks = absl::StrCat("/proc/", pid, "/task");
  DIR* const directory = opendir(tasks.c_str());
  if (directory == nullptr) return counts;
  while (const dirent* const entry = readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    counts.sleeps += SleepsOfThread(absl::StrCat(tasks, "/", entry->d_name, "/status"));
  }
  closedir(directory);
  return counts;
}

EndCounts OwnCounts() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return {.sleeps = static_cast<uint64_t>(usage.ru_nvcsw), .cpu = CpuOf(CLOCK_PROCESS_CPUTIME_ID)};
}

double Median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

TimedClient::TimedClient(std::string name, const integration::FaultyStores* stores,
                         const std::string& target, absl::Duration spin)
    : name_(std::move(name)), stores_(stores) {
  client_ = OrEnd(Client::Attach(target, {.timeout = absl::Seconds(60), .spin = spin}), name_);
}

void TimedClient::Check(absl::Span<const int32_t> ids) {
  const std::string rows =
      OrEnd(integration::LookUp(*client_, ids, RealClock().After(absl::Seconds(60))), name_);
  if (rows == integration::ExpectedRows(client_->table_set(), client_->addresser(), ids)) return;
  OrEnd(absl::DataLossError("rows that are not their own"), name_);
}

EndCounts TimedClient::StoreCounts() const {
  EndCounts sum;
  for (size_t i = 0; i < stores_->size(); ++i) {
    const EndCounts one = CountsOf(stores_->pid(i));
    sum.sleeps += one.sleeps;
    sum.cpu += one.cpu;
  }
  return sum;
}

Timing TimedClient::Measure(absl::Span<const int32_t> stream, size_t tokens, size_t in_flight,
                            absl::Duration time) {
  if (std::find(checked_.begin(), checked_.end(), tokens) == checked_.end()) {
    Check(stream.first(tokens));
    checked_.push_back(tokens);
  }
  std::vector<Batch> batches(std::max(kPlans, in_flight));
  for (size_t i = 0; i < batches.size(); ++i) {
    Batch& batch = batches[i];
    const absl::Span<const int32_t> ids =
        stream.subspan(i * tokens % (stream.size() - tokens), tokens);
    OrEnd(client_->PlanTokens(Addresser::Start(), ids, {}, &batch.plan), name_);
    batch.rows.resize(tokens * integration::TokenBytes(client_->table_set()));
    batch.landings = integration::DenseLandings(client_->table_set(), batch.rows.data());
  }
  std::vector<double> took_us;
  std::deque<Batch*> open;
  const auto take = [&] {
    Batch* const batch = open.front();
    open.pop_front();
    OrEnd(client_->Wait(batch->ticket), name_);
    took_us.push_back(absl::ToDoubleMicroseconds(RealClock().Now() - batch->begin));
    client_->Reap(batch->ticket);
  };
  const EndCounts own = OwnCounts(), theirs = StoreCounts();
  const MonotonicTime begin = RealClock().Now();
  for (size_t i = 0; RealClock().Now() < begin + time; ++i) {
    if (open.size() == in_flight) take();
    Batch* const batch = &batches[i % batches.size()];
    batch->begin = RealClock().Now();
    batch->ticket =
        OrEnd(client_->Submit(batch->plan, batch->landings, MonotonicTime::Infinite()), name_);
    open.push_back(batch);
  }
  while (!open.empty()) take();
  const absl::Duration took = RealClock().Now() - begin;
  const EndCounts own_after = OwnCounts(), theirs_after = StoreCounts();
  const auto count = static_cast<double>(took_us.size());
  const auto cpu_us = [&](const EndCounts& from, const EndCounts& to) {
    return absl::ToDoubleMicroseconds(to.cpu - from.cpu) / count;
  };
  return {
      .tokens_per_s = count * static_cast<double>(tokens) / absl::ToDoubleSeconds(took),
      .p50_us = Median(took_us),
      .client_sleeps = static_cast<double>(own_after.sleeps - own.sleeps) / count,
      .store_sleeps = static_cast<double>(theirs_after.sleeps - theirs.sleeps) / count,
      .client_cpu_us = cpu_us(own, own_after),
      .store_cpu_us = cpu_us(theirs, theirs_after),
  };
}

}  // namespace engram::bench
