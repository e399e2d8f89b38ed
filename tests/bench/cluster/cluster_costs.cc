// cluster_costs: what it costs to have a table at several stores.
//
// Stores of 2 and of 4 partitions beside one that has all, over Unix sockets on the same cores, by
// turns in one run: tokens a second, the time of one token, and how often threads sleep and are
// woken for it at both ends. Then how evenly real token streams fall on partitions, by arithmetic.
// Exit status 1: a bar was missed; 2: it could not be measured.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "memstore/addressing/families.h"
#include "tests/bench/cluster/balance.h"
#include "tests/bench/cluster/timed_client.h"
#include "tests/integration/small_sets.h"

namespace engram::bench {
namespace {

constexpr char kFamily[] = "deepseek-v4.1-flash";
constexpr char kTokenMap[] = "tests/golden/deepseek_v41_token_map.i32";
// Of each stream, so that all are of one length.
constexpr size_t kStreamTokens = 65'536;
constexpr double kLeastRate = 0.85, kMostP50OfTwo = 2.5, kMostImbalance = 1.05;

struct Flags {
  double seconds = 0.5;
  int rounds = 7;
  int spin_us = -1;
  uint64_t rows_per_head = 20'000;
  std::vector<std::string> streams = {"tests/golden/tokens_en_handbook.i32",
                                      "tests/golden/tokens_py_code.i32",
                                      "tests/golden/tokens_zh_handbook.i32"};
  std::string only;  // "stores" or "balance"; empty: both
};

struct Size {
  size_t tokens, in_flight;
};
constexpr Size kSizes[] = {{1, 1}, {256, 1}, {256, 4}, {4096, 1}, {4096, 4}};

struct Spread {
  double median = 0, least = 0, most = 0;
};

Spread SpreadOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values.front(), values.back()};
}

bool Judge(const std::string& what, double value, double bar, bool is_least) {
  const bool holds = is_least ? value >= bar : value <= bar;
  absl::PrintF("%s  %s: %.2f (bar %s %.2f)\n", holds ? "held  " : "MISSED", what, value,
               is_least ? ">=" : "<=", bar);
  return holds;
}

std::vector<int32_t> ReadIds(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<int32_t> ids;
  for (int32_t id = 0;
       ids.size() < kStreamTokens && file.read(reinterpret_cast<char*>(&id), sizeof(id));) {
    ids.push_back(id);
  }
  return ids;
}

// [client][round]
using Rounds = std::vector<std::vector<Timing>>;

// Over one client's in the same round.
Spread RatioOf(const Rounds& rounds, size_t client,
               const std::function<double(const Timing&)>& of) {
  std::vector<double> ratios;
  for (size_t i = 0; i < rounds[client].size(); ++i) {
    ratios.push_back(of(rounds[client][i]) / of(rounds[0][i]));
  }
  return SpreadOf(std::move(ratios));
}

void Print(const Size& size, const std::vector<std::unique_ptr<TimedClient>>& clients,
           const Rounds& rounds) {
  const double rows = 48;  // a token of this family
  for (size_t c = 0; c < clients.size(); ++c) {
    const auto median = [&](double Timing::*field) {
      std::vector<double> values;
      for (const Timing& timing : rounds[c]) values.push_back(timing.*field);
      return SpreadOf(std::move(values)).median;
    };
    const Spread rate = RatioOf(rounds, c, [](const Timing& t) { return t.tokens_per_s; });
    const Spread p50 = RatioOf(rounds, c, [](const Timing& t) { return t.p50_us; });
    absl::PrintF(
        "%6d %6d  %-14s %8.3f %10.1f  %5.2f (%4.2f to %4.2f) %5.2f (%4.2f to %4.2f) %7.1f %7.1f "
        "%9.1f %9.1f\n",
        size.tokens, size.in_flight, clients[c]->name(), median(&Timing::tokens_per_s) * rows / 1e6,
        median(&Timing::p50_us), rate.median, rate.least, rate.most, p50.median, p50.least,
        p50.most, median(&Timing::client_sleeps), median(&Timing::store_sleeps),
        median(&Timing::client_cpu_us), median(&Timing::store_cpu_us));
  }
  std::fflush(stdout);
}

bool JudgeSize(const Size& size, const Rounds& rounds) {
  if (size.tokens > 1) {
    return Judge(absl::StrCat("4 stores over one, rows/s, ", size.tokens, " tokens, ",
                              size.in_flight, " in flight"),
                 RatioOf(rounds, 3, [](const Timing& t) { return t.tokens_per_s; }).median,
                 kLeastRate, /*is_least=*/true);
  }
  return Judge("2 stores over one, p50, 1 token",
               RatioOf(rounds, 2, [](const Timing& t) { return t.p50_us; }).median, kMostP50OfTwo,
               /*is_least=*/false);
}

bool MeasureStores(const Flags& flags) {
  const integration::ScratchDirectory scratch;
  integration::PackSmallSet(kFamily, flags.rows_per_head, scratch / "set");
  std::vector<std::unique_ptr<integration::FaultyStores>> stores;
  std::vector<std::unique_ptr<TimedClient>> clients;
  const absl::Duration spin =
      flags.spin_us < 0 ? AttachOptions().spin : absl::Microseconds(flags.spin_us);
  for (const uint32_t partitions : {1u, 2u, 4u}) {
    const std::string sockets = scratch / absl::StrCat("of", partitions);
    std::filesystem::create_directory(sockets);
    std::vector<std::string> more;
    if (flags.spin_us >= 0) more = {"--spin-us", absl::StrCat(std::min(flags.spin_us, 50))};
    stores.push_back(std::make_unique<integration::FaultyStores>(
        integration::FaultyStores::Options{.table_set = scratch / "set",
                                           .sockets = sockets,
                                           .partitions = partitions,
                                           .replicas = 1,
                                           .flags = more}));
    if (partitions == 1) {
      clients.push_back(std::make_unique<TimedClient>(
          "one store", stores[0].get(), absl::StrCat("grpc:unix:", sockets, "/p0r0"), spin));
    }
    clients.push_back(std::make_unique<TimedClient>(absl::StrCat("cluster of ", partitions),
                                                    stores.back().get(), stores.back()->target(),
                                                    spin));
  }
  const std::vector<int32_t> stream = ReadIds(flags.streams[0]);
  std::vector<Rounds> all(std::size(kSizes), Rounds(clients.size()));
  for (int round = 0; round < flags.rounds; ++round) {
    for (size_t s = 0; s < std::size(kSizes); ++s) {
      for (size_t i = 0; i < clients.size(); ++i) {
        const size_t c = round % 2 == 0 ? i : clients.size() - 1 - i;
        all[s][c].push_back(clients[c]->Measure(stream, kSizes[s].tokens, kSizes[s].in_flight,
                                                absl::Seconds(flags.seconds)));
      }
    }
    std::fprintf(stderr, "round %d of %d\n", round + 1, flags.rounds);
  }
  absl::PrintF("%6s %6s  %-14s %8s %10s  %20s %20s %15s %19s\n", "", "", "", "", "",
               "rows/s over one", "p50 over one", "sleeps a batch", "CPU us a batch");
  absl::PrintF("%6s %6s  %-14s %8s %10s  %20s %20s %7s %7s %9s %9s\n", "tokens", "flight", "",
               "M rows/s", "p50 us", "", "", "client", "stores", "client", "stores");
  bool holds = true;
  for (size_t s = 0; s < std::size(kSizes); ++s) Print(kSizes[s], clients, all[s]);
  for (size_t s = 0; s < std::size(kSizes); ++s) holds &= JudgeSize(kSizes[s], all[s]);
  return holds;
}

// Whether partitions by heads hold the bar; -1: could not be told.
int PrintBalance(const Flags& flags) {
  const absl::StatusOr<const Family*> family = FindFamily(kFamily);
  const absl::StatusOr<AddressScheme> scheme =
      family.ok() ? Derive(**family, {}) : absl::StatusOr<AddressScheme>(family.status());
  const absl::StatusOr<std::shared_ptr<const Addresser>> addresser =
      scheme.ok() ? Addresser::Load(*scheme, kTokenMap) : scheme.status();
  if (!addresser.ok()) {
    std::fprintf(stderr, "cluster_costs: %s\n", addresser.status().ToString().c_str());
    return -1;
  }
  absl::PrintF("\n%-24s %2s  %-8s %12s %12s %12s %12s\n", "stream", "N", "cut", "KB a token",
               "behind cache", "max/mean", "behind cache");
  double worst = 1;
  for (const std::string& path : flags.streams) {
    const std::vector<int32_t> ids = ReadIds(path);
    for (const uint32_t partitions : {2u, 4u, 8u}) {
      for (const Cut cut : {Cut::kHeads, Cut::kColumns}) {
        const absl::StatusOr<Balance> balance =
            BalanceOf(**addresser, ids, {.cut = cut, .partitions = partitions});
        if (!balance.ok()) {
          std::fprintf(stderr, "cluster_costs: %s: %s\n", path.c_str(),
                       balance.status().ToString().c_str());
          return -1;
        }
        const double distinct = MaxOverMean(balance->distinct);
        const double missed = MaxOverMean(balance->missed);
        if (cut == Cut::kHeads) worst = std::max({worst, distinct, missed});
        const double tokens = 1e3 * static_cast<double>(balance->tokens);
        absl::PrintF("%-24s %2d  %-8s %12.2f %12.2f %12.3f %12.3f\n",
                     path.substr(path.rfind('/') + 1), partitions,
                     cut == Cut::kHeads ? "heads" : "columns", Sum(balance->distinct) / tokens,
                     Sum(balance->missed) / tokens, distinct, missed);
      }
    }
  }
  return Judge("partitions by heads, max/mean, the worst", worst, kMostImbalance,
               /*is_least=*/false);
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("What it costs to have a table at several stores");
  app.add_option("--seconds", flags.seconds, "of one measurement")->check(CLI::PositiveNumber);
  app.add_option("--rounds", flags.rounds)->check(CLI::PositiveNumber);
  app.add_option("--spin-us", flags.spin_us, "of both ends; by default theirs");
  app.add_option("--rows-per-head", flags.rows_per_head, "of the table set");
  app.add_option("--streams", flags.streams, "token streams")->delimiter(',');
  app.add_option("--only", flags.only, "one half: stores, or balance, which starts none")
      ->check(CLI::IsMember({"stores", "balance"}));
  CLI11_PARSE(app, argc, argv);
  const bool holds = flags.only == "balance" || MeasureStores(flags);
  const int balanced = flags.only == "stores" ? 1 : PrintBalance(flags);
  if (balanced < 0) return 2;
  return holds && balanced == 1 ? 0 : 1;
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) { return engram::bench::Main(argc, argv); }
