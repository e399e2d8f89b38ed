// The chaos test by hand, as long and as fast as wanted: `bazel run //tests/cluster:chaos --
// --help`.
//
// Exit status 1: a batch failed or had wrong rows, or the bar was missed.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/str_format.h"
#include "tests/cluster/chaos.h"

namespace engram::integration {
namespace {

int Main(int argc, char** argv) {
  ChaosOptions options;
  double seconds = 300, quiet_seconds = 60, every_s = 0, lasts_s = 0, bar = 3;
  CLI::App app("Kills or stops stores of a cluster under load, and checks every row");
  app.add_option("--fault", options.kind, "kill (every 3 s, for 5 s) or stop (every 5 s, for 2 s)")
      ->transform(CLI::CheckedTransformer(std::map<std::string, FaultKind>{
          {"kill", FaultKind::kKill}, {"stop", FaultKind::kStop}}));
  app.add_option("--seconds", seconds, "with faults")->check(CLI::PositiveNumber);
  app.add_option("--quiet-seconds", quiet_seconds, "before them")->check(CLI::PositiveNumber);
  app.add_option("--every", every_s, "seconds between two faults");
  app.add_option("--lasts", lasts_s, "seconds of a fault");
  app.add_option("--rate", options.rate, "batches a second; 0: a share of the capacity");
  app.add_option("--share", options.share, "of the capacity");
  app.add_option("--seed", options.seed, "of faults and times");
  app.add_option("--partitions", options.partitions)->check(CLI::Range(1, 24));
  app.add_option("--replicas", options.replicas)->check(CLI::Range(2, 8));
  app.add_option("--tokens", options.batch_tokens, "of a batch")->check(CLI::Range(1, 1024));
  app.add_option("--rows-per-head", options.rows_per_head, "of the table set");
  app.add_option("--bar", bar, "p99.9 with faults over p99.9 without");
  app.add_flag("--verbose", options.says_each, "says each fault");
  CLI11_PARSE(app, argc, argv);
  const bool kills = options.kind == FaultKind::kKill;
  options.every = absl::Seconds(every_s > 0 ? every_s : kills ? 3 : 5);
  options.lasts = absl::Seconds(lasts_s > 0 ? lasts_s : kills ? 5 : 2);
  options.quiet_time = absl::Seconds(quiet_seconds);
  options.faulty_time = absl::Seconds(seconds);
  const ChaosReport report = RunChaos(options);
  const bool is_exact = report.faulty.batches > 0 &&
                        report.quiet.failed + report.quiet.wrong == 0 &&
                        report.faulty.failed + report.faulty.wrong == 0;
  const bool holds = report.RatioAt(0.999) <= bar;
  absl::PrintF("%s%s  0 failed and 0 wrong\n%s  p99.9 with faults %.2f of quiet, bar %.2f\n",
               report.Table(), is_exact ? "held  " : "MISSED", holds ? "held  " : "MISSED",
               report.RatioAt(0.999), bar);
  return is_exact && holds ? 0 : 1;
}

}  // namespace
}  // namespace engram::integration

int main(int argc, char** argv) { return engram::integration::Main(argc, argv); }
