// Simulated clusters by hand: one seed or many, of any size. `--help` says how.
//
// Exit status 1: a promise was broken; the line before the table says which, by which seed.

#include <algorithm>
#include <cstdio>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "tests/sim/progress.h"
#include "tests/sim/simulation.h"

namespace engram::sim {
namespace {

int Main(int argc, char** argv) {
  SimOptions options;
  uint64_t seeds = 1;
  uint32_t bug = 0;
  bool is_quiet = false;
  CLI::App app("Simulates clusters of stores and workers, by seed, and checks what has to hold");
  app.add_option("--seed", options.seed, "the first one");
  app.add_option("--seeds", seeds, "how many, one after the other")->check(CLI::PositiveNumber);
  app.add_option("--stores", options.stores)->check(CLI::Range(1, 100'000));
  app.add_option("--workers", options.workers)->check(CLI::Range(1, 1'000'000));
  app.add_option("--seconds", options.seconds, "simulated")->check(CLI::PositiveNumber);
  app.add_option("--partitions", options.partitions, "0: drawn by the seed")
      ->check(CLI::Range(0, 24));
  app.add_option("--rate", options.rate, "batches a second of a worker, on average")
      ->check(CLI::PositiveNumber);
  app.add_option("--faults", options.faults, "kinds, as bits (options.h)");
  app.add_flag("--one-at-a-time", options.one_at_a_time,
               "the next fault comes when the last one is over, and no batch may fail");
  app.add_option("--bug", bug, "a mistake to plant, by its number (options.h)")
      ->check(CLI::Range(0u, kBugs - 1));
  app.add_flag("--verbose", options.verbose, "says each fault and each failed batch");
  bool no_hedges = false, is_copied = false;
  app.add_flag("--no-hedges", no_hedges, "no part is asked for twice because it is late");
  app.add_flag("--copied", is_copied,
               "no store writes rows itself (RDMA), so that all may be hedged");
  app.add_flag("--no-faults", is_quiet, "nothing goes wrong, and no set is rolled out");
  CLI11_PARSE(app, argc, argv);
  options.bug = static_cast<Bug>(bug);
  if (options.one_at_a_time) options.faults &= kSurvivedFaults;
  options.hedges = !no_hedges;
  options.by_device = !is_copied;
  if (is_quiet) options.faults = 0, options.rolls_out = false;

  Figures all;
  Progress progress;
  uint64_t broken = 0;
  const uint64_t first = options.seed;
  for (uint64_t done = 0; done < seeds; ++done) {
    options.seed = first + done;
    const Outcome outcome = Simulate(
        options, [&](double seconds) { progress.Show(done, seeds, seconds, options.seconds); });
    all.Add(outcome.figures);
    if (outcome.broken == Invariant::kNone) continue;
    ++broken;
    absl::PrintF("%s\n", outcome.what);
  }
  absl::PrintF("%d seeds from %d, %d stores, %d workers, %d s each: %d broke a promise, %.1f s\n",
               seeds, first, options.stores, options.workers, options.seconds, broken,
               progress.Took());
  absl::PrintF("%s", all.Table(progress.Took()));
  return broken == 0 ? 0 : 1;
}

}  // namespace
}  // namespace engram::sim

int main(int argc, char** argv) { return engram::sim::Main(argc, argv); }
