// overload ADDRESS: what engramd does when it is asked for more than it can give.
//
// First what it can give (a closed loop), then loads of several times that, in turns; then one
// client that asks for little beside others that ask for three times the capacity.
// tests/bench/overload.py starts engramd and this.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/bench/overload/overload.h"

namespace engram::overload {
namespace {

struct Flags {
  std::string address;
  Way way = Way::kStream;
  uint32_t clients = 8;
  uint32_t tokens = 64;
  uint32_t window = 4;
  int deadline_ms = 50;
  int milliseconds = 3000;
  int turns = 3;
  std::vector<double> factors = {0.5, 1, 1.5, 2, 3};
};

double Percentile(std::vector<float>& values, double share) {
  if (values.empty()) return 0;
  const auto at =
      values.begin() + static_cast<ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

void Print(const char* who, int turn, double factor, double seconds, Tally tally) {
  const auto rate = [seconds](uint64_t count) { return static_cast<double>(count) / seconds; };
  std::printf("%s\n", nlohmann::json({{"who", who},
                                      {"turn", turn},
                                      {"factor", factor},
                                      {"sent_per_s", rate(tally.sent)},
                                      {"in_time_per_s", rate(tally.in_time)},
                                      {"late_per_s", rate(tally.late)},
                                      {"rejected_per_s", rate(tally.rejected)},
                                      {"expired_per_s", rate(tally.expired)},
                                      {"failed", tally.failed},
                                      {"failure", tally.failure},
                                      {"ok_p50_us", Percentile(tally.ok_us, 0.5)},
                                      {"ok_p99_us", Percentile(tally.ok_us, 0.99)},
                                      {"rejected_p50_us", Percentile(tally.rejected_us, 0.5)},
                                      {"rejected_p99_us", Percentile(tally.rejected_us, 0.99)}})
                          .dump()
                          .c_str());
  std::fflush(stdout);
}

Tally Sum(const std::vector<Tally>& tallies) {
  Tally sum;
  for (const Tally& tally : tallies) sum.Add(tally);
  return sum;
}

int Run(const Flags& flags) {
  auto generator = Generator::Connect(flags.address, flags.clients, flags.tokens, flags.way);
  if (!generator.ok()) {
    std::fprintf(stderr, "overload: %s\n", std::string(generator.status().message()).c_str());
    return 1;
  }
  const std::chrono::milliseconds time(flags.milliseconds);
  const double seconds = flags.milliseconds / 1000.0;
  for (int turn = 0; turn < flags.turns; ++turn) {
    const double capacity = (*generator)->Capacity(flags.window, time);
    std::printf(
        "%s\n",
        nlohmann::json({{"who", "capacity"}, {"turn", turn}, {"per_s", capacity}}).dump().c_str());
    const double each = capacity / flags.clients;
    Load load{.batches_per_s = {},
              .deadline = std::chrono::milliseconds(flags.deadline_ms),
              .time = time};
    for (const double factor : flags.factors) {
      load.batches_per_s.assign(flags.clients, factor * each);
      Print("all", turn, factor, seconds, Sum((*generator)->Run(load)));
    }
    // The first asks for half of its share; the others for three times the capacity.
    load.batches_per_s.assign(flags.clients, 3 * capacity / (flags.clients - 1));
    load.batches_per_s[0] = each / 2;
    std::vector<Tally> tallies = (*generator)->Run(load);
    Print("modest", turn, 0.5 / flags.clients, seconds, tallies[0]);
    tallies.erase(tallies.begin());
    Print("greedy", turn, 3, seconds, Sum(tallies));
  }
  return 0;
}

}  // namespace
}  // namespace engram::overload

int main(int argc, char** argv) {
  engram::overload::Flags flags;
  CLI::App app(
      "Loads an engramd beyond its capacity and says what came of it, one JSON object a line.");
  app.add_option("address", flags.address, "of engramd, as gRPC takes it")->required();
  app.add_flag_callback(
      "--unary", [&] { flags.way = engram::overload::Way::kUnary; },
      "unary calls in the place of streams");
  app.add_option("--clients", flags.clients, "connections")->check(CLI::Range(2, 512));
  app.add_option("--tokens", flags.tokens, "tokens of a batch")->check(CLI::Range(1, 4096));
  app.add_option("--window", flags.window,
                 "batches under way of a client while capacity is measured");
  app.add_option("--deadline-ms", flags.deadline_ms, "of each batch");
  app.add_option("--milliseconds", flags.milliseconds, "of each load");
  app.add_option("--turns", flags.turns, "how often all is repeated");
  app.add_option("--factors", flags.factors, "loads, in multiples of the capacity")->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  return engram::overload::Run(flags);
}
