// The store's gather loop beside a plain memcpy loop and the best hand-tuned loop
// (gather_ceiling.h), and two gather threads beside one, in one run: all contenders take turns in
// every round, each time at indices that none has touched lately, and medians over the rounds are
// compared.
//
// Exit status: 0 when the project's bars hold, 1 when one is missed or the run is void (a ceiling
// that does not itself beat memcpy proves nothing), 2 for bad usage.
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "memstore/base/clock.h"
#include "memstore/gather/gather.h"
#include "memstore/gather/gather_tuning.h"
#include "memstore/gather/parallel_gather.h"
#include "memstore/store/arena.h"
#include "tests/bench/gather_ceiling.h"

namespace engram::bench {
namespace {

constexpr double kBarOverMemcpy = 1.7;
constexpr double kBarOfCeiling = 0.9;
constexpr double kBarTwoThreads = 1.5;
constexpr size_t kTwoThreadsBatch = 12288;
// Rows between two looks at the clock: some milliseconds.
constexpr size_t kRowsATiming = 98304;
// The final meets are of three contenders, not of a whole sweep.
constexpr int kFinalRounds = 3;
// Far more indices than a timing takes, so that a row's return finds the caches long refilled.
constexpr size_t kIndexPool = size_t{4} << 20;

struct Options {
  double table_gib = 4.25;
  int rounds = 15;
  bool json = false;
};

// Indices of rows, taken batch by batch in a circle.
class Indices {
 public:
  Indices(bool zipf, uint64_t rows) : ids_(kIndexPool) {
    std::mt19937_64 random(20260101);
    for (uint32_t& id : ids_) id = zipf ? ZipfRow(random, rows) : random() % rows;
  }
  const uint32_t* Next(size_t batch) {
    if (at_ + batch > ids_.size()) at_ = 0;
    const uint32_t* const ids = &ids_[at_];
    at_ += batch;
    return ids;
  }

 private:
  // Exponent 1: the chance of rank r is as 1/r, so r is rows^u. Ranks are scattered over the table.
  static uint32_t ZipfRow(std::mt19937_64& random, uint64_t rows) {
    const double uniform = static_cast<double>(random() >> 11) * 0x1p-53;
    const auto rank = static_cast<uint64_t>(std::pow(static_cast<double>(rows), uniform));
    return (rank * 0x9E3779B97F4A7C15 >> 20) % rows;
  }

  std::vector<uint32_t> ids_;
  size_t at_ = 0;
};

double MedianOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Contender {
  std::string name;
  std::function<void(const uint32_t* ids, size_t count)> run;
  std::vector<double> ns_a_row = {};

  double Median() const { return MedianOf(ns_a_row); }
  // How many times as fast as `other`.
  double Over(const Contender& other) const {
    std::vector<double> ratios;
    for (size_t i = 0; i < ns_a_row.size(); ++i) ratios.push_back(other.ns_a_row[i] / ns_a_row[i]);
    return MedianOf(std::move(ratios));
  }
};

void TakeTurns(std::vector<Contender>& contenders, Indices& indices, size_t batch, int rounds) {
  using Clock = std::chrono::steady_clock;
  std::mt19937 random(1);
  std::vector<Contender*> order;
  order.reserve(contenders.size());
  for (Contender& contender : contenders) order.push_back(&contender);
  const size_t batches = std::max<size_t>(1, kRowsATiming / batch);
  for (int round = 0; round < rounds; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    for (Contender* const contender : order) {
      const Clock::time_point begin = Clock::now();
      for (size_t i = 0; i < batches; ++i) contender->run(indices.Next(batch), batch);
      const std::chrono::duration<double, std::nano> took = Clock::now() - begin;
      contender->ns_a_row.push_back(took.count() / static_cast<double>(batches * batch));
    }
  }
}

void PrintObject(const nlohmann::ordered_json& object) { absl::PrintF("%s\n", object.dump()); }

class Comparison {
 public:
  Comparison(const Arena& table, const Options& options) : table_(table), options_(options) {}

  // Whether the bars hold.
  bool Run() {
    if (!options_.json) {
      absl::PrintF("%-5s %-8s %7s | %8s %8s %8s | %8s %8s %8s  %s\n", "row", "ids", "batch",
                   "memcpy", "ceiling", "ours", "ceil/mc", "ours/mc", "ours/ceil", "ceiling is");
    }
    for (const uint32_t row_bytes : {160u, 264u, 320u}) {
      for (const bool zipf : {false, true}) {
        Indices indices(zipf, table_.bytes() / row_bytes);
        for (const size_t batch : {size_t{48}, size_t{3072}, size_t{98304}}) {
          CompareLoops(row_bytes, zipf, batch, indices);
        }
      }
    }
    CompareThreads();
    return Verdict();
  }

 private:
  // As engramd holds it: calibrated, when it is first asked for.
  const GatherTable& Table(uint32_t row_bytes) {
    const auto found = tables_.find(row_bytes);
    if (found != tables_.end()) return found->second;
    GatherTable table{table_.data(), table_.bytes() / row_bytes, row_bytes};
    const GatherCalibration calibration = CalibrateGather(table, RealClock());
    table.ahead_rows = calibration.ahead_rows;
    if (options_.json) {
      PrintObject({{"benchmark", "gather_calibration"},
                   {"row_bytes", row_bytes},
                   {"ahead_rows", calibration.ahead_rows},
                   {"ns", calibration.chosen.ns_a_row},
                   {"default_ahead_rows", calibration.standard.rows},
                   {"default_ns", calibration.standard.ns_a_row}});
    } else {
      absl::PrintF("row %d: %s\n", row_bytes, calibration.ToString());
    }
    return tables_.emplace(row_bytes, table).first->second;
  }

  Contender BestHandTuned(const GatherTable& table, size_t batch, Indices& indices,
                          std::byte* landing) const {
    std::vector<Contender> loops;
    for (const HandTunedLoop& loop : HandTunedLoops(table.row_bytes)) {
      loops.push_back({loop.name, [=, run = loop.run](const uint32_t* ids, size_t count) {
                         run(table.base, ids, count, landing);
                       }});
    }
    TakeTurns(loops, indices, batch, options_.rounds);
    const auto best = std::min_element(
        loops.begin(), loops.end(),
        [](const Contender& a, const Contender& b) { return a.Median() < b.Median(); });
    return {best->name, best->run};
  }

  void CompareLoops(uint32_t row_bytes, bool zipf, size_t batch, Indices& indices) {
    const GatherTable& table = Table(row_bytes);
    std::vector<std::byte> bytes(batch * row_bytes);
    std::byte* const landing = bytes.data();
    std::vector<Contender> contenders = {BestHandTuned(table, batch, indices, landing)};
    contenders.push_back({"memcpy", [=](const uint32_t* ids, size_t count) {
                            for (size_t i = 0; i < count; ++i) {
                              std::memcpy(landing + i * row_bytes,
                                          table.base + uint64_t{ids[i]} * row_bytes, row_bytes);
                            }
                          }});
    contenders.push_back({"ours", [=](const uint32_t* ids, size_t count) {
                            Gather<uint32_t>(table, {ids, count}, Landing{landing, 0, 0});
                          }});
    TakeTurns(contenders, indices, batch, kFinalRounds * options_.rounds);
    Report(row_bytes, zipf, batch, contenders[0], contenders[1], contenders[2]);
  }

  void Report(uint32_t row_bytes, bool zipf, size_t batch, const Contender& ceiling,
              const Contender& plain, const Contender& ours) {
    const double ceiling_over_memcpy = ceiling.Over(plain);
    const double ours_over_memcpy = ours.Over(plain);
    const double ours_of_ceiling = ours.Over(ceiling);
    const char* const ids = zipf ? "zipf" : "uniform";
    if (options_.json) {
      PrintObject({{"benchmark", "gather"},
                   {"row_bytes", row_bytes},
                   {"ids", ids},
                   {"batch_rows", batch},
                   {"memcpy_ns", plain.Median()},
                   {"ceiling_ns", ceiling.Median()},
                   {"ours_ns", ours.Median()},
                   {"ceiling_over_memcpy", ceiling_over_memcpy},
                   {"ours_over_memcpy", ours_over_memcpy},
                   {"ours_of_ceiling", ours_of_ceiling},
                   {"ceiling", ceiling.name}});
    } else {
      absl::PrintF("%-5d %-8s %7d | %8.1f %8.1f %8.1f | %7.2fx %7.2fx %8.2f   %s\n", row_bytes, ids,
                   batch, plain.Median(), ceiling.Median(), ours.Median(), ceiling_over_memcpy,
                   ours_over_memcpy, ours_of_ceiling, ceiling.name);
    }
    std::fflush(stdout);

    least_of_ceiling_ = std::min(least_of_ceiling_, ours_of_ceiling);
    if (row_bytes == 264 && !zipf && batch >= 3072) {
      least_over_memcpy_ = std::min(least_over_memcpy_, ours_over_memcpy);
      least_ceiling_over_memcpy_ = std::min(least_ceiling_over_memcpy_, ceiling_over_memcpy);
    }
  }

  void CompareThreads() {
    constexpr uint32_t kRowBytes = 264;
    const absl::StatusOr<std::unique_ptr<GatherTeam>> team = GatherTeam::Create(2, "gather");
    if (!team.ok()) {
      absl::FPrintF(stderr, "gather_compare: %s\n", team.status().ToString());
      return;
    }
    const GatherTable& table = Table(kRowBytes);
    Indices indices(false, table.rows);
    std::vector<std::byte> bytes(kTwoThreadsBatch * kRowBytes);
    const Landing landing{bytes.data(), 0, 0};
    std::vector<Contender> contenders;
    contenders.push_back({"one", [=](const uint32_t* ids, size_t count) {
                            Gather<uint32_t>(table, {ids, count}, landing);
                          }});
    contenders.push_back({"two", [&](const uint32_t* ids, size_t count) {
                            (*team)->Gather<uint32_t>(table, {ids, count}, landing);
                          }});
    TakeTurns(contenders, indices, kTwoThreadsBatch, 4 * options_.rounds);
    two_threads_ = contenders[1].Over(contenders[0]);
    if (options_.json) {
      PrintObject({{"benchmark", "gather_threads"},
                   {"row_bytes", kRowBytes},
                   {"batch_rows", kTwoThreadsBatch},
                   {"one_thread_ns", contenders[0].Median()},
                   {"two_threads_ns", contenders[1].Median()},
                   {"two_over_one", two_threads_}});
    } else {
      absl::PrintF("row %d, uniform, batch %d: one thread %.1f, two threads %.1f: %.2fx\n",
                   kRowBytes, kTwoThreadsBatch, contenders[0].Median(), contenders[1].Median(),
                   two_threads_);
    }
  }

  bool Verdict() const {
    const bool is_void = least_ceiling_over_memcpy_ < kBarOverMemcpy;
    const bool met = !is_void && least_over_memcpy_ >= kBarOverMemcpy &&
                     least_of_ceiling_ >= kBarOfCeiling && two_threads_ >= kBarTwoThreads;
    std::FILE* const out = options_.json ? stderr : stdout;
    absl::FPrintF(out, "ceiling over memcpy, uniform 264 B:     %.2fx (bar %.1fx)%s\n",
                  least_ceiling_over_memcpy_, kBarOverMemcpy, is_void ? "  THE RUN IS VOID" : "");
    absl::FPrintF(out, "ours over memcpy, uniform 264 B, least: %.2fx (bar %.1fx)\n",
                  least_over_memcpy_, kBarOverMemcpy);
    absl::FPrintF(out, "ours of the ceiling, least of all:      %.2f  (bar %.1f)\n",
                  least_of_ceiling_, kBarOfCeiling);
    absl::FPrintF(out, "two threads over one, %d rows:       %.2fx (bar %.1fx)\n", kTwoThreadsBatch,
                  two_threads_, kBarTwoThreads);
    absl::FPrintF(out, "%s\n", is_void ? "void" : met ? "all bars hold" : "a bar is missed");
    return met;
  }

  const Arena& table_;
  const Options& options_;
  std::map<uint32_t, GatherTable> tables_;
  double least_ceiling_over_memcpy_ = INFINITY;
  double least_over_memcpy_ = INFINITY;
  double least_of_ceiling_ = INFINITY;
  double two_threads_ = 0;
};

std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

void PrintMachine(const Options& options, const Arena& table) {
  utsname kernel{};
  uname(&kernel);
  const char* const set = __builtin_cpu_supports("avx512f") ? "AVX-512"
                          : __builtin_cpu_supports("avx2")  ? "AVX2"
                                                            : "SSE2";
  const double gib = static_cast<double>(table.bytes()) / (1 << 30);
  const int64_t cores = sysconf(_SC_NPROCESSORS_ONLN);
  if (options.json) {
    PrintObject({{"benchmark", "machine"},
                 {"processor", ProcessorName()},
                 {"cores", cores},
                 {"instructions", set},
                 {"kernel", kernel.release},
                 {"table_gib", gib},
                 {"pages", std::string(Name(table.page_kind()))},
                 {"rounds", options.rounds}});
  } else {
    absl::PrintF(
        "%s, %d cores, %s, Linux %s; table %.2f GiB on %s pages; medians of %d rounds, ns a row\n",
        ProcessorName(), cores, set, kernel.release, gib, Name(table.page_kind()), options.rounds);
  }
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("The gather loop beside memcpy and the best hand-tuned loop");
  app.add_option("--table-gib", options.table_gib, "size of the table")
      ->check(CLI::Range(0.01, 1000.0));
  app.add_option("--rounds", options.rounds, "rounds to take the median of")
      ->check(CLI::Range(1, 1000));
  app.add_flag("--json", options.json, "one object a line instead of a table");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (HandTunedLoops(264).empty()) {
    absl::FPrintF(stderr, "gather_compare: this processor has no AVX2, which the ceiling needs\n");
    return 1;
  }
  const auto bytes = static_cast<uint64_t>(options.table_gib * (1 << 30));
  absl::StatusOr<Arena> table = Arena::Map(bytes, ArenaOptions());
  const absl::Status status = table.ok() ? table->Populate(0, table->bytes()) : table.status();
  if (!status.ok()) {
    absl::FPrintF(stderr, "gather_compare: %s\n", status.ToString());
    return 1;
  }
  if (const auto pages = ReadResidentPages({table->range()}); pages.ok()) {
    table->ConfirmPageKind(pages->front());
  }
  PrintMachine(options, *table);
  return Comparison(*table, options).Run() ? 0 : 1;
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) { return engram::bench::Main(argc, argv); }
