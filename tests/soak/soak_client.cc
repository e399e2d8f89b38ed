// One client of a soak (soak.py starts many, and kills and stops some).
//
//   soak_client --target T [--mode M] --seconds S --seed N
//
// Prints one line of JSON: what it asked for and what became of it. Exit codes: 0 every batch was
// what it must be, 1 the message says which was not, 2 bad usage.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "memstore/os/malloc_tuning.h"
#include "tests/soak/soak.h"

namespace engram::soak {
namespace {

nlohmann::ordered_json Line(const SoakCounts& counts) {
  const auto ok = counts.codes.find("OK");
  nlohmann::ordered_json line = {{"batches", counts.batches},
                                 {"rows", counts.rows},
                                 {"ok", ok == counts.codes.end() ? 0 : ok->second},
                                 {"codes", counts.codes},
                                 {"reaped", counts.reaped},
                                 {"left", counts.left},
                                 {"wrong", counts.wrong},
                                 {"attached", counts.attached},
                                 {"largest", counts.largest}};
  std::vector<double> us = counts.small_us;
  if (!us.empty()) {
    std::sort(us.begin(), us.end());
    line["p50_us"] = us[us.size() / 2];
    line["p99_us"] = us[us.size() * 99 / 100];
  }
  return line;
}

int Main(int argc, char** argv) {
  CLI::App app("A client that checks every row of batches of every kind, for soak.py");
  SoakOptions options;
  double seconds = 1;
  double attach_timeout = 60;
  app.add_option("--target", options.target, "where the rows of a synthetic set are")->required();
  app.add_option("--mode", options.attach.mode, "stream or unary; ring");
  app.add_option("--connections", options.attach.connections, "gRPC: connections");
  app.add_option("--streams", options.attach.streams, "gRPC: streams of each");
  app.add_option("--attach-timeout", attach_timeout, "seconds");
  app.add_option("--seconds", seconds, "how long");
  app.add_option("--seed", options.seed, "what is drawn follows from it");
  app.add_option("--most-tokens", options.most_tokens, "of a batch")->check(CLI::PositiveNumber);
  app.add_option("--largest-rows", options.largest_rows,
                 "now and then as many rows as the target takes, up to this many");
  CLI11_PARSE(app, argc, argv);
  options.time = absl::Seconds(seconds);
  options.attach.timeout = absl::Seconds(attach_timeout);
  CountStops();
  Soak soak(options);
  if (const absl::Status status = soak.Run(); !status.ok()) {
    std::fprintf(
        stderr, "soak_client: %s %s, batch %llu of seed %llu: %s\n", options.target.c_str(),
        options.attach.mode.c_str(), static_cast<unsigned long long>(soak.counts().batches),
        static_cast<unsigned long long>(options.seed), std::string(status.message()).c_str());
    return 1;
  }
  std::cout << Line(soak.counts()).dump() << std::endl;
  return 0;
}

}  // namespace
}  // namespace engram::soak

int main(int argc, char** argv) {
  engram::KeepFreedMemory();  // as the programs that are delivered do
  return engram::soak::Main(argc, argv);
}
