#include "tests/cluster/chaos.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/client.h"
#include "gtest/gtest.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

// Batches open at once while the capacity is measured: enough to keep the cores busy.
constexpr size_t kAtOnce = 8;

RouterCounters RoutingOf(Client& client) {
  return client.metrics().routing.value_or(RouterCounters());
}

std::string LineOf(const char* name, const LoadResult& result) {
  const auto ms = [&](double share) { return absl::ToDoubleMilliseconds(result.Quantile(share)); };
  return absl::StrFormat("%-12s %9d %7d %6d %9.2f %9.2f %9.2f %9.2f\n", name, result.batches,
                         result.failed, result.wrong, ms(0.5), ms(0.99), ms(0.999), ms(1));
}

}  // namespace

double ChaosReport::RatioAt(double share) const {
  return absl::FDivDuration(faulty.Quantile(share),
                            std::max(quiet.Quantile(share), absl::Nanoseconds(1)));
}

std::string ChaosReport::Table() const {
  std::string text =
      absl::StrFormat("capacity %.0f batches/s, load %.0f batches/s\n", capacity, rate);
  absl::StrAppendFormat(&text, "%-12s %9s %7s %6s %9s %9s %9s %9s\n", "", "batches", "failed",
                        "wrong", "p50 ms", "p99 ms", "p99.9 ms", "max ms");
  absl::StrAppend(&text, LineOf("closed loop", closed), LineOf("quiet", quiet),
                  LineOf("with faults", faulty));
  absl::StrAppendFormat(&text, "%-12s %24s %9.2f %9.2f %9.2f %9.2f\n", "ratio", "", RatioAt(0.5),
                        RatioAt(0.99), RatioAt(0.999), RatioAt(1));
  const auto resent = [&](ResendReason reason) {
    const auto at = static_cast<size_t>(reason);
    return absl::StrCat(after.resends[at] - before.resends[at], "+",
                        after.refusals[at] - before.refusals[at]);
  };
  absl::StrAppendFormat(&text,
                        "%d faults; sent again: %d for free, silent %s, unavailable %s, busy %s, "
                        "not held %s (paid+not "
                        "paid); %d hedges, %d won; %d ejections, %d trials, %d maps\n",
                        faults, after.free_resends - before.free_resends,
                        resent(ResendReason::kSilent), resent(ResendReason::kUnavailable),
                        resent(ResendReason::kBusy), resent(ResendReason::kNotHeld),
                        after.hedges - before.hedges, after.hedges_won - before.hedges_won,
                        after.ejections - before.ejections, after.trials - before.trials,
                        after.maps - before.maps);
  for (const LoadResult* result : {&closed, &quiet, &faulty}) {
    if (!result->first_failure.empty()) absl::StrAppend(&text, result->first_failure, "\n");
  }
  return text;
}

ChaosReport RunChaos(const ChaosOptions& options) {
  const ScratchDirectory scratch;
  PackSmallSet("deepseek-v4.1-flash", options.rows_per_head, scratch / "set");
  FaultyStores stores({.table_set = scratch / "set",
                       .sockets = scratch / "",
                       .partitions = options.partitions,
                       .replicas = options.replicas,
                       .flags = {"--spin-us", "0"}});
  ChaosReport report;
  const auto client =
      Client::Attach(stores.target(), {.timeout = absl::Seconds(60), .spin = absl::ZeroDuration()});
  EXPECT_TRUE(client.ok()) << client.status();
  if (!client.ok()) return report;
  CheckedLoad load(**client, RealTokenIds(CheckedLoad::kBatches * options.batch_tokens),
                   options.batch_tokens);
  load.Capacity(kAtOnce, options.capacity_time / 3, &report.closed);  // all is warm from here on
  report.capacity = load.Capacity(kAtOnce, options.capacity_time, &report.closed);
  report.rate = options.rate > 0 ? options.rate : options.share * report.capacity;
  report.quiet = load.Run(report.rate, options.quiet_time, options.deadline, options.seed);
  report.before = RoutingOf(**client);
  Faults faults(stores, {.kind = options.kind,
                         .every = options.every,
                         .lasts = options.lasts,
                         .seed = options.seed,
                         .says_each = options.says_each});
  report.faulty = load.Run(report.rate, options.faulty_time, options.deadline, options.seed + 1);
  report.after = RoutingOf(**client);
  report.faults = faults.End();
  return report;
}

}  // namespace engram::integration
