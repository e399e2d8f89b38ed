// engram bench: latency and throughput of a target, over a real token stream.

#include <prometheus/exposer.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "client/cli/bench_compare.h"
#include "client/cli/bench_run.h"
#include "client/cli/support/addresses.h"
#include "client/cli/support/column_flag.h"
#include "client/cli/support/command.h"
#include "client/cli/support/dense_rows.h"
#include "client/cli/support/target_flags.h"
#include "client/cli/support/token_flags.h"
#include "client/cli/support/token_stream.h"
#include "client/prometheus.h"
#include "memstore/base/human_units.h"
#include "memstore/program/flag_text.h"

namespace engram::cli {
namespace {

// Batches are cut from the first of these: more would only cost memory.
constexpr size_t kMaxTokens = 1 << 20;
constexpr int kMaxClients = 64;
constexpr int kMaxInFlight = 256;
// What all batches in flight may take: beyond any cache, and far below what serves a table.
constexpr uint64_t kMaxBytes = uint64_t{4} << 30;
constexpr double kGiB = uint64_t{1} << 30;
// Each has a thread: more wait for the same cores.
constexpr int kMaxInFlightInAll = 1024;
constexpr uint64_t kMaxRounds = uint64_t{1} << 40;
// Seconds for which nobody wonders whether it still runs.
constexpr double kSilence = 10;

// What --mode takes.
const std::vector<std::string>& Modes() {
  static const auto& modes =
      *new std::vector<std::string>{"stream", "unary", "ring", "write", "read"};
  return modes;
}

// Below the flags in --help.
constexpr char kColumnsOfTheTable[] =
    "Columns of the table:\n"
    "  path          the transport, or with --compare the target\n"
    "  batch/tokens  tokens of a batch (--batch-tokens)\n"
    "  rounds        batches that were measured, of all clients\n"
    "  p50/us, p99/us, p99.9/us  time of one batch from Submit to its rows landed, in "
    "microseconds:\n"
    "                half of the batches took no longer, and so on\n"
    "  Mrows/s       million rows landed a second, over all clients; repeated rows count each "
    "time\n"
    "  GiB/s         2^30 bytes of these rows a second\n"
    "  distinct      rows of a batch that are different, of all its rows\n"
    "  x rows/s, x p50  with --compare: Mrows/s and p50 divided by those of --target in the same "
    "turn;\n"
    "                all numbers are then medians over the turns, rounds the sum";

struct BenchFlags {
  TargetFlags target;
  std::vector<std::string> compare;  // [MODE@]TARGET
  TokenFiles tokens;
  std::vector<int> batch_tokens = {1, 16, 64, 256};
  int clients = 1;
  int in_flight = 1;
  double seconds = 3;
  uint64_t rounds = 0;
  bool from_token_ids = false;
  std::optional<std::string> columns;
  std::string metrics_listen;  // HOST:PORT; empty: nowhere
  bool json = false;
};

// The host is this machine alone.
bool IsLoopback(absl::string_view address) {
  return absl::StartsWith(address, "127.") || absl::StartsWith(address, "[::1]:") ||
         absl::StartsWith(address, "localhost:");
}

// What the clients count of themselves, for a Prometheus to fetch while they run.
class MetricsPage {
 public:
  absl::Status Show(const std::string& address, const std::vector<BenchPath>& paths) {
    absl::string_view port = address;
    // civetweb takes addresses alone.
    const std::string numeric =
        absl::ConsumePrefix(&port, "localhost:") ? absl::StrCat("127.0.0.1:", port) : address;
    if (!IsLoopback(address)) {
      std::fprintf(stderr,
                   "note: --metrics-listen %s: whoever reaches this machine can read the clients' "
                   "counts there, without TLS; 127.0.0.1:PORT shows them to this machine alone\n",
                   address.c_str());
    }
    try {
      exposer_ = std::make_unique<prometheus::Exposer>(numeric, /*num_threads=*/2);
    } catch (const std::exception&) {  // of civetweb's, whose words say nothing
      return absl::UnavailableError(
          absl::StrCat("--metrics-listen ", address,
                       ": cannot listen there: give HOST:PORT with this machine's address and a "
                       "port that is free"));
    }
    for (const BenchPath& path : paths) {
      for (size_t i = 0; i < path.clients.size(); ++i) {
        if (i > 0 && path.clients[i] == path.clients[0]) continue;  // one that all share
        clients_->Add(path.clients[i], absl::StrCat(path.name, " ", i));
      }
    }
    exposer_->RegisterCollectable(clients_);
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<ClientCollectable> clients_ = std::make_shared<ClientCollectable>();
  std::unique_ptr<prometheus::Exposer> exposer_;  // ends before what it shows
};

std::string Head(const BenchFlags& flags) {
  std::string head =
      absl::StrFormat("%12s %9s %10s %10s %10s %11s %8s %11s", "batch/tokens", "rounds", "p50/us",
                      "p99/us", "p99.9/us", "Mrows/s", "GiB/s", "distinct");
  if (flags.compare.empty()) return absl::StrFormat("%-12s %s\n", "path", head);
  return absl::StrFormat("%8s %8s %s  %s\n", "x rows/s", "x p50", head, "path");
}

std::string Line(const BenchFlags& flags, const std::string& path, int batch_tokens,
                 const ComparedResult& compared) {
  const BenchResult& result = compared.median;
  if (!flags.json) {
    const std::string line = absl::StrFormat(
        "%12d %9d %10.1f %10.1f %10.1f %11.3f %8.2f %9.0f %%", batch_tokens, result.rounds,
        result.p50_us, result.p99_us, result.p999_us, result.rows_per_s / 1e6,
        result.gb_per_s * 1e9 / kGiB, result.distinct_share * 100);
    if (flags.compare.empty()) return absl::StrFormat("%-12s %s\n", path, line);
    return absl::StrFormat("%8.2f %8.2f %s  %s\n", compared.ratio_rows_per_s, compared.ratio_p50,
                           line, path);
  }
  nlohmann::ordered_json line;
  line["path"] = path;
  line["batch_tokens"] = batch_tokens;
  line["rounds"] = result.rounds;
  line["p50_us"] = result.p50_us;
  line["p99_us"] = result.p99_us;
  line["p999_us"] = result.p999_us;
  line["rows_per_s"] = result.rows_per_s;
  line["gb_per_s"] = result.gb_per_s;
  line["distinct_share"] = result.distinct_share;
  if (flags.columns) line["columns"] = *flags.columns;
  if (!flags.compare.empty()) {
    line["ceiling"] = flags.target.target;
    line["ratio_rows_per_s"] = compared.ratio_rows_per_s;
    line["ratio_p50"] = compared.ratio_p50;
  }
  return line.dump() + "\n";
}

absl::StatusOr<BenchSetting> Setting(const BenchFlags& flags, int batch_tokens,
                                     const Manifest& table_set) {
  BenchSetting setting = {.batch_tokens = static_cast<uint64_t>(batch_tokens),
                          .in_flight = static_cast<uint64_t>(flags.in_flight),
                          .seconds = flags.seconds,
                          .rounds = flags.rounds,
                          .from_token_ids = flags.from_token_ids};
  if (!flags.columns) return setting;
  absl::StatusOr<ColumnSlice> slice = SliceOfFlag(flags.columns, table_set.scheme.Columns());
  if (!slice.ok()) return slice.status();
  setting.slice = *slice;
  return setting;
}

// What is wrong of the flags once the target is known.
absl::Status CheckAgainst(Client& client, const BenchFlags& flags) {
  if (flags.clients * flags.in_flight > kMaxInFlightInAll) {
    return absl::InvalidArgumentError(
        absl::StrCat("--clients ", flags.clients, " with --in-flight ", flags.in_flight, " are ",
                     flags.clients * flags.in_flight, " batches at once, more than ",
                     kMaxInFlightInAll, ": lower one of them"));
  }
  const Manifest& set = client.table_set();
  if (absl::Status status = CheckDeadMask(flags.tokens, set.scheme); !status.ok()) return status;
  const ColumnSlice all = ColumnSlice::All(set.scheme.Columns());
  for (const int batch_tokens : flags.batch_tokens) {
    const absl::StatusOr<BenchSetting> setting = Setting(flags, batch_tokens, set);
    if (!setting.ok()) return setting.status();
    absl::Status fits = CheckBatchTokens(client, setting->slice.value_or(all), batch_tokens);
    if (!fits.ok()) return fits;
    const uint64_t bytes = BenchBytes(set, *setting, flags.clients);
    if (bytes <= kMaxBytes) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--clients ", flags.clients, " with --in-flight ", flags.in_flight,
                     " batches of --batch-tokens ", batch_tokens, " take ", HumanBytes(bytes),
                     ", more than ", HumanBytes(kMaxBytes), ": lower one of them"));
  }
  return absl::OkStatus();
}

// One client for each thread, as separate workers would have; a client that holds the table in this
// process is shared instead.
absl::StatusOr<std::vector<std::shared_ptr<Client>>> AttachAll(const TargetFlags& target, int count,
                                                               int* exit_code) {
  std::vector<std::shared_ptr<Client>> clients;
  for (int i = 0; i < count; ++i) {
    if (!clients.empty() && !clients[0]->transport().capabilities().lands_asynchronously) {
      clients.push_back(clients[0]);
      continue;
    }
    absl::StatusOr<std::unique_ptr<Client>> client = AttachTo(target, exit_code);
    if (!client.ok()) return client.status();
    clients.push_back(*std::move(client));
  }
  return clients;
}

// Targets as they are attached to, from those that were given.
absl::Status MakeWhole(std::vector<TargetFlags>* all, std::vector<std::string>* targets) {
  for (size_t i = 0; i < all->size(); ++i) {
    absl::StatusOr<std::string> whole = WholeTarget((*targets)[i]);
    if (!whole.ok()) return whole.status();
    (*targets)[i] = (*all)[i].target = *std::move(whole);
  }
  return absl::OkStatus();
}

// --target, and then what it is compared with. Alone it has the name of its transport.
absl::StatusOr<std::vector<BenchPath>> AttachPaths(const BenchFlags& flags, int* exit_code) {
  std::vector<BenchPath> paths;
  const auto attach = [&](const TargetFlags& target, const std::string& name) -> absl::Status {
    auto clients = AttachAll(target, flags.clients, exit_code);
    if (!clients.ok()) return clients.status();
    paths.push_back({name, *std::move(clients)});
    absl::Status fits = CheckAgainst(*paths.back().clients.front(), flags);
    if (!fits.ok()) *exit_code = kBadUsage;
    return fits;
  };
  std::vector<TargetFlags> all = {flags.target};
  std::vector<std::string> targets = {flags.target.target};
  for (const std::string& compared : flags.compare) {
    TargetFlags other = flags.target;
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(compared, absl::MaxSplits('@', 1));
    const bool has_mode = absl::c_linear_search(Modes(), parts.first);
    other.mode = has_mode ? parts.first : "";
    other.rdma_mode.clear();
    other.target = has_mode ? parts.second : compared;
    targets.push_back(other.target);
    all.push_back(std::move(other));
  }
  absl::Status status = MakeWhole(&all, &targets);
  if (status.ok()) status = CheckConnectionFlags(flags.target, targets);
  if (!status.ok()) *exit_code = kBadUsage;
  for (size_t i = 0; status.ok() && i < all.size(); ++i) {
    status = attach(all[i], i == 0 ? flags.target.target : flags.compare[i - 1]);
  }
  if (!status.ok()) return status;
  if (status = CheckSameSet(paths); !status.ok()) {
    *exit_code = kBadUsage;
    return status;
  }
  if (flags.compare.empty()) {
    const std::string name(paths[0].clients[0]->transport().capabilities().name);
    const std::string& mode = flags.target.mode;
    paths[0].name =
        mode.empty() || absl::EndsWith(name, mode) ? name : absl::StrCat(name, "-", mode);
  }
  return paths;
}

absl::StatusOr<std::vector<ComparedResult>> Measure(const BenchFlags& flags,
                                                    const std::vector<BenchPath>& paths,
                                                    const BenchTokens& tokens, int batch_tokens) {
  const absl::StatusOr<BenchSetting> setting =
      Setting(flags, batch_tokens, paths[0].clients[0]->table_set());
  if (!setting.ok()) return setting.status();
  if (!flags.compare.empty()) return RunCompared(paths, tokens, *setting);
  const absl::StatusOr<BenchResult> result = RunBench(paths[0].clients, tokens, *setting);
  if (!result.ok()) return result.status();
  return std::vector<ComparedResult>{{.median = *result}};
}

// Before a run of which nothing is seen for long: how long it is. A number of rounds tells no time.
void SayHowLong(const BenchFlags& flags) {
  if (flags.rounds > 0 || flags.seconds < kSilence) return;
  const size_t paths = 1 + flags.compare.size();
  const size_t sizes = flags.batch_tokens.size();
  const std::string each = HumanTime(absl::Seconds(flags.seconds));
  std::fprintf(stderr, "note: this takes %s: %s for each of %s%s\n",
               HumanTime(absl::Seconds(flags.seconds * static_cast<double>(paths * sizes))).c_str(),
               each.c_str(), Counted(sizes, "batch size").c_str(),
               paths > 1 ? absl::StrCat(" of ", Counted(paths, "target")).c_str() : "");
}

int Run(const BenchFlags& flags) {
  if (std::isnan(flags.seconds)) {
    return Finish(absl::InvalidArgumentError("--seconds is not a number"), kBadUsage);
  }
  if (absl::Status status = CheckTokenFiles(flags.tokens); !status.ok()) {
    return Finish(status, kBadUsage);
  }
  const absl::StatusOr<MarkedTokens> tokens = ReadTokens(flags.tokens, kMaxTokens);
  if (!tokens.ok()) return Finish(tokens.status());
  const size_t count = tokens->token_ids.size();
  for (const int batch_tokens : flags.batch_tokens) {
    if (count < static_cast<size_t>(batch_tokens)) {
      return Finish(absl::InvalidArgumentError(
          absl::StrCat(flags.tokens.token_ids, " holds ", Counted(count, "token id"),
                       ", fewer than one batch of ", batch_tokens,
                       "; give a longer stream or a smaller --batch-tokens")));
    }
  }
  int exit_code = kFailed;
  const absl::StatusOr<std::vector<BenchPath>> paths = AttachPaths(flags, &exit_code);
  if (!paths.ok()) return Finish(paths.status(), exit_code);
  MetricsPage metrics;
  if (!flags.metrics_listen.empty()) {
    absl::Status shown = metrics.Show(flags.metrics_listen, *paths);
    if (!shown.ok()) return Finish(shown);
  }
  SayHowLong(flags);
  absl::Status printed;
  if (!flags.json) printed = Print(Head(flags));
  for (const int batch_tokens : flags.batch_tokens) {
    // Nobody reads what would be measured.
    if (!printed.ok()) break;
    const auto results = Measure(flags, *paths, {tokens->token_ids, tokens->dead}, batch_tokens);
    if (!results.ok()) return Finish(results.status());
    for (size_t i = 0; printed.ok() && i < results->size(); ++i) {
      printed = Print(Line(flags, (*paths)[i].name, batch_tokens, (*results)[i]));
    }
  }
  return Finish(printed);
}

// How the transport asks.
void AddTransportFlags(CLI::App& command, TargetFlags& flags) {
  command
      .add_option(
          "--mode", flags.mode,
          "how the transport asks: stream (the default) or unary of grpc, ring of shm, write "
          "(the default) or read of rdma")
      ->check(CLI::IsMember(Modes()));
  command
      .add_option("--connections", flags.connections,
                  "connections of each client over grpc (default 1)")
      ->check(CLI::Range(1u, AttachOptions::kMaxConnections));
  command
      .add_option("--streams", flags.streams, "streams of each connection over grpc (default 1)")
      ->check(CLI::Range(1u, AttachOptions::kMaxStreams));
  command
      .add_option("--spin-us", flags.spin_us,
                  "microseconds at most that a wait looks for rows before it sleeps, over grpc and "
                  "rdma, 0 to 10000 (default 200; 0: never)")
      ->check(CLI::Range(0, 10000));
  GroupFlags(command, "Transport", {"--mode", "--connections", "--streams", "--spin-us"});
}

}  // namespace

void AddBenchCommand(CLI::App& app, CommandBody* chosen) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command = app.add_subcommand("bench",
                                         "Measure a target: time from Submit, row ids ready, to "
                                         "rows landed; rows counted as delivered");
  AddTargetFlags(*command, &flags->target);
  command
      ->add_option("--token-ids", flags->tokens.token_ids,
                   "raw int32 little-endian, or a .npy file; - is standard input")
      ->required()
      ->type_name("FILE");
  AddTokenIdsTypeFlag(*command, &flags->tokens.token_ids_type);
  AddDeadMaskFlag(*command, &flags->tokens.dead_mask);
  AddAllowUnmaskedImagesFlag(*command, &flags->target.allow_unmasked_images);
  command
      ->add_option("--batch-tokens", flags->batch_tokens,
                   "tokens of a batch, one or several sizes (default 1,16,64,256)")
      ->delimiter(',')
      ->check(CLI::Range(1, kMaxBatchTokens));
  command->add_option("--clients", flags->clients, "clients, each with a connection (default 1)")
      ->check(CLI::Range(1, kMaxClients));
  command->add_option("--in-flight", flags->in_flight, "batches in flight a client (default 1)")
      ->check(CLI::Range(1, kMaxInFlight));
  CLI::Option* const seconds =
      command->add_option("--seconds", flags->seconds, "time for each batch size (default 3)")
          ->check(CLI::Range(0.01, 3600.0))
          ->type_name("SECONDS");
  command
      ->add_option("--rounds", flags->rounds,
                   "batches of each size, over all clients, in place of a time")
      ->check(CLI::Range(uint64_t{1}, kMaxRounds))
      ->excludes(seconds);
  command
      ->add_option("--compare", flags->compare,
                   "[MODE@]TARGET, once or more: measured in turns with --target, which is the "
                   "ceiling that ratios are taken to")
      ->check(Suggest(TargetKinds()))
      ->type_name("[MODE@]TARGET")
      ->allow_extra_args(false);
  AddTransportFlags(*command, flags->target);
  command->add_flag("--from-token-ids", flags->from_token_ids, "count the addressing as well");
  AddColumnFlag(*command, "only their rows are fetched and counted", &flags->columns);
  command
      ->add_option("--metrics-listen", flags->metrics_listen,
                   "where the clients' own metrics are shown at /metrics while it runs (default: "
                   "nowhere)")
      ->check(RefuseEmpty)
      ->type_name("HOST:PORT");
  command->add_flag("--json", flags->json, "one JSON object a line");
  GroupFlags(*command, "Token ids",
             {"--token-ids", "--token-ids-type", "--dead-mask", "--allow-unmasked-images"});
  GroupFlags(*command, "Measurement",
             {"--batch-tokens", "--clients", "--in-flight", "--seconds", "--rounds", "--compare",
              "--from-token-ids", "--columns", "--metrics-listen", "--json"});
  command->footer(kColumnsOfTheTable);
  command->callback([flags, chosen] { *chosen = [flags] { return Run(*flags); }; });
}

}  // namespace engram::cli
