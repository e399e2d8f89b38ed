#include "tests/sim/figures.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace engram::sim {
namespace {

constexpr const char* kReasonNames[kResendReasons] = {
    "none", "connection broke", "silent", "unavailable", "busy", "not held", "damaged"};

template <typename Array>
void AddEach(Array& to, const Array& from) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

}  // namespace

void LatencyCounts::Add(int64_t microseconds) {
  const auto value = static_cast<uint64_t>(std::max<int64_t>(microseconds, 0)) + kSteps;
  const auto doubling = static_cast<uint32_t>(std::bit_width(value)) - 4;
  const uint64_t at = doubling * kSteps + (value >> doubling) - kSteps;
  ++counts_[std::min<uint64_t>(at, counts_.size() - 1)];
}

void LatencyCounts::Add(const LatencyCounts& other) { AddEach(counts_, other.counts_); }

int64_t LatencyCounts::Quantile(double share) const {
  const uint64_t all = std::accumulate(counts_.begin(), counts_.end(), uint64_t{0});
  auto left = static_cast<uint64_t>(static_cast<double>(all) * share);
  for (uint32_t at = 0; at < counts_.size() && all > 0; ++at) {
    if (left < counts_[at]) {
      return static_cast<int64_t>(uint64_t{kSteps + at % kSteps + 1} << at / kSteps) - kSteps;
    }
    left -= counts_[at];
  }
  return 0;
}

uint64_t Figures::FailedInAll() const {
  return std::accumulate(failed.begin(), failed.end(), uint64_t{0});
}

void Figures::Add(const Figures& other) {
  events += other.events;
  batches += other.batches;
  landed += other.landed;
  held_back += other.held_back;
  first_attempts += other.first_attempts;
  resends += other.resends;
  free_resends += other.free_resends;
  hedges += other.hedges;
  hedges_won += other.hedges_won;
  drains += other.drains;
  ejections += other.ejections;
  fences += other.fences;
  maps += other.maps;
  faults += other.faults;
  rollouts += other.rollouts;
  turned_away += other.turned_away;
  AddEach(failed, other.failed);
  AddEach(resends_by_reason, other.resends_by_reason);
  AddEach(refused_by_reason, other.refused_by_reason);
  latency.Add(other.latency);
}

void Figures::Add(const RouterCounters& counters) {
  hedges_won += counters.hedges_won;
  drains += counters.drains;
  ejections += counters.ejections;
  fences += counters.fences;
  maps += counters.maps;
  AddEach(resends_by_reason, counters.resends);
  AddEach(refused_by_reason, counters.refusals);
}

std::string Figures::Table(double wall_seconds) const {
  std::string text;
  const auto line = [&](absl::string_view name, uint64_t value, absl::string_view more = "") {
    absl::StrAppendFormat(&text, "  %-36s %14d%s\n", name, value, more);
  };
  const auto share = [&](uint64_t of) {
    return absl::StrFormat("   %.3f %% of first attempts",
                           first_attempts == 0 ? 0 : 100.0 * of / first_attempts);
  };
  line("batches", batches);
  line("landed", landed);
  line("failed", FailedInAll());
  for (size_t code = 0; code < failed.size(); ++code) {
    if (failed[code] == 0) continue;
    line(absl::StrCat("  ", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))),
         failed[code]);
  }
  line("not submitted", held_back);
  line("first attempts", first_attempts);
  line("sent again, out of the budget", resends, share(resends));
  for (size_t i = 0; i < kResendReasons; ++i) {
    if (resends_by_reason[i] + refused_by_reason[i] == 0) continue;
    line(absl::StrCat("  ", kReasonNames[i]), resends_by_reason[i],
         absl::StrCat("   and ", refused_by_reason[i], " for which the budget was spent"));
  }
  line("sent again for free", free_resends);
  line("hedges", hedges, share(hedges));
  line("  that won", hedges_won);
  line("drained attempts", drains);
  line("ejections", ejections);
  line("fences", fences);
  line("turned away by stores", turned_away);
  line("maps", maps);
  line("faults", faults);
  line("rollouts", rollouts);
  line("p50, simulated, us", latency.Quantile(0.5));
  line("p99, simulated, us", latency.Quantile(0.99));
  line("p99.9, simulated, us", latency.Quantile(0.999));
  line("events", events,
       absl::StrFormat("   %.2f million a second", events / std::max(wall_seconds, 1e-9) / 1e6));
  return text;
}

}  // namespace engram::sim
