// A load on a target that serves a synthetic table set; every row that lands is checked.
//
//   cluster_load --target T --table-set DIR --token-ids FILE [--clients N] [--batch-tokens N]
//
// Prints "ready" once its clients are attached, and looks rows up from then on. A line on standard
// input names the phase that begins with it; the phase before it ends, once ten batches have, and
// is printed: one JSON object a line, of the batches that ended in it. The end of standard input
// ends the last phase and the program. What happens before the first phase is checked as well and
// counted in none. Exit codes: 0 it ran (the phases say what failed and what was wrong), 1 it could
// not, 2 bad usage.

#include <prometheus/exposer.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/prometheus.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/os/malloc_tuning.h"
#include "memstore/os/thread.h"
#include "memstore/table/manifest.h"
#include "tests/demo/plain_rows.h"

namespace engram::demo {
namespace {

// Longer than a cluster takes to get over a store that is gone, and far below any limit of a
// person's patience: a batch that takes as long has failed.
constexpr absl::Duration kDeadline = absl::Seconds(5);
// Of a phase: fewer say nothing.
constexpr size_t kLeastBatches = 10;

struct Flags {
  std::string target, table_set, token_ids, metrics_listen;
  int clients = 2;
  uint64_t batch_tokens = 64;
  double attach_timeout = 60;
};

// What became of the batches that ended in one phase.
struct Phase {
  std::string name;
  MonotonicTime begin;
  uint64_t rows = 0, wrong = 0;
  size_t batches = 0;                      // that ended
  std::map<std::string, uint64_t> failed;  // by code
  std::vector<float> us;                   // of each that landed
  std::vector<RouterCounters> routing;     // of each client, at its beginning
};

class Load {
 public:
  explicit Load(const Flags& flags) : flags_(flags) {}

  absl::Status Attach();
  absl::Status Start();
  // Ends the phase before it, whose line is returned; empty of the first.
  std::string Begin(const std::string& name);
  void Stop();

  const std::vector<std::shared_ptr<Client>>& clients() const { return clients_; }

 private:
  // A batch's memory, and the plan that it is addressed by.
  struct Batch {
    std::vector<std::vector<std::byte>> rows;  // of each layer
    std::vector<Landing> landings;
    Client::Plan plan;
  };

  void Run(size_t number);
  absl::Status LookUp(Client& client, size_t first, Batch& batch);
  uint64_t CountWrong(size_t first, const Batch& batch);
  std::vector<RouterCounters> Routing() const;

  const Flags flags_;
  Clock& clock_ = RealClock();
  std::vector<int32_t> ids_;     // as they are asked for
  std::vector<int32_t> hashed_;  // through the token map
  std::vector<std::shared_ptr<Client>> clients_;
  std::vector<std::thread> threads_;
  std::atomic<bool> stopped_{false};
  Mutex mutex_;
  CondVar batch_ended_;
  Phase phase_ ABSL_GUARDED_BY(mutex_);
  bool has_begun_ ABSL_GUARDED_BY(mutex_) = false;
};

absl::Status Load::Attach() {
  const absl::StatusOr<Manifest> manifest = LoadManifest(flags_.table_set);
  if (!manifest.ok()) return manifest.status();
  if (absl::Status status = CheckPlain(manifest->scheme); !status.ok()) return status;
  ids_ = hashed_ = ReadInts(flags_.token_ids);
  if (ids_.size() < flags_.batch_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat(flags_.token_ids, " has fewer token ids than a batch"));
  }
  MapIds(manifest->scheme, flags_.table_set, &hashed_);
  for (int i = 0; i < flags_.clients; ++i) {
    absl::StatusOr<std::unique_ptr<Client>> client =
        Client::Attach(flags_.target, {.timeout = absl::Seconds(flags_.attach_timeout)});
    if (!client.ok()) return client.status();
    clients_.push_back(*std::move(client));
  }
  if (clients_[0]->table_set().id == manifest->id) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(flags_.target, " serves another table set"));
}

absl::Status Load::Start() {
  for (size_t i = 0; i < clients_.size(); ++i) {
    absl::StatusOr<std::thread> thread = StartThread("load", [this, i] { Run(i); });
    if (!thread.ok()) return thread.status();
    threads_.push_back(*std::move(thread));
  }
  return absl::OkStatus();
}

void Load::Run(size_t number) {
  Client& client = *clients_[number];
  Batch batch;
  for (const LayerTableSpec& layer : client.table_set().layers) {
    batch.rows.emplace_back(flags_.batch_tokens * client.table_set().scheme.Columns() *
                            layer.row_bytes);
    batch.landings.push_back({.data = batch.rows.back().data()});
  }
  // Clients go round the stream from places of their own.
  size_t first = ids_.size() / clients_.size() * number;
  while (!stopped_) {
    first = first + flags_.batch_tokens <= ids_.size() ? first : 0;
    for (std::vector<std::byte>& rows : batch.rows)
      std::fill(rows.begin(), rows.end(), std::byte{0});
    const MonotonicTime begin = clock_.Now();
    const absl::Status status = LookUp(client, first, batch);
    const absl::Duration took = clock_.Now() - begin;
    const uint64_t wrong = status.ok() ? CountWrong(first, batch) : 0;
    first += flags_.batch_tokens;
    if (!status.ok()) std::fprintf(stderr, "cluster_load: %s\n", status.ToString().c_str());
    MutexLock lock(mutex_);
    ++phase_.batches;
    batch_ended_.NotifyAll();
    phase_.wrong += wrong;
    if (!status.ok()) {
      ++phase_.failed[absl::StatusCodeToString(status.code())];
      continue;
    }
    for (const std::vector<RowId>& ids : batch.plan.row_ids) phase_.rows += ids.size();
    phase_.us.push_back(static_cast<float>(absl::ToDoubleMicroseconds(took)));
  }
}

absl::Status Load::LookUp(Client& client, size_t first, Batch& batch) {
  const absl::StatusOr<Ticket> ticket = client.Prefetch(
      Addresser::Start(), absl::MakeConstSpan(ids_).subspan(first, flags_.batch_tokens), {},
      batch.landings, clock_.After(kDeadline), &batch.plan);
  if (!ticket.ok()) return ticket.status();
  absl::Status status = client.Wait(*ticket);
  client.Reap(*ticket);
  return status;
}

uint64_t Load::CountWrong(size_t first, const Batch& batch) {
  const Manifest& set = clients_[0]->table_set();
  const auto ids = absl::MakeConstSpan(hashed_).subspan(first, flags_.batch_tokens);
  uint64_t wrong = 0;
  for (size_t l = 0; l < set.layers.size(); ++l) {
    const uint32_t row_bytes = set.layers[l].row_bytes;
    const auto* row = reinterpret_cast<const unsigned char*>(batch.rows[l].data());
    for (size_t position = 0; position < ids.size(); ++position) {
      for (uint32_t column = 0; column < set.scheme.Columns(); ++column, row += row_bytes) {
        const uint64_t id = PlainRow(set.scheme, set.scheme.layers[l], column, ids, position);
        if (IsPlainRow(set.layers[l].layer, id, row, row_bytes)) continue;
        if (wrong++ > 0) continue;
        std::fprintf(stderr, "cluster_load: token %zu, layer %u, column %u: not row %llu\n",
                     first + position, set.layers[l].layer, column,
                     static_cast<unsigned long long>(id));
      }
    }
  }
  return wrong;
}

std::vector<RouterCounters> Load::Routing() const {
  std::vector<RouterCounters> routing;
  for (const std::shared_ptr<Client>& client : clients_) {
    routing.push_back(client->metrics().routing.value_or(RouterCounters()));
  }
  return routing;
}

nlohmann::ordered_json RoutingJson(const std::vector<RouterCounters>& before,
                                   const std::vector<RouterCounters>& after) {
  const auto sum = [&](const auto& value) {
    uint64_t total = 0;
    for (size_t i = 0; i < after.size(); ++i) total += value(after[i]) - value(before[i]);
    return total;
  };
  constexpr const char* kReasons[kResendReasons] = {"",     "broken",   "silent", "unavailable",
                                                    "busy", "not_held", "damaged"};
  nlohmann::ordered_json resends = nlohmann::ordered_json::object();
  for (size_t reason = 1; reason < kResendReasons; ++reason) {
    resends[kReasons[reason]] = sum([&](const RouterCounters& c) { return c.resends[reason]; });
  }
  return {{"parts", sum([](const RouterCounters& c) { return c.first_attempts; })},
          {"free_resends", sum([](const RouterCounters& c) { return c.free_resends; })},
          {"resends", resends},
          {"hedges", sum([](const RouterCounters& c) { return c.hedges; })},
          {"hedges_won", sum([](const RouterCounters& c) { return c.hedges_won; })},
          {"ejections", sum([](const RouterCounters& c) { return c.ejections; })}};
}

std::string Load::Begin(const std::string& name) {
  {
    MutexLock lock(mutex_);
    while (has_begun_ && phase_.batches < kLeastBatches) batch_ended_.Wait(mutex_);
  }
  const std::vector<RouterCounters> routing = Routing();
  Phase ended;
  bool had_begun = false;
  {
    MutexLock lock(mutex_);
    had_begun = std::exchange(has_begun_, true);
    ended = std::exchange(phase_, Phase{});
    phase_.name = name;
    phase_.begin = clock_.Now();
    phase_.routing = routing;
  }
  if (!had_begun) return "";
  std::sort(ended.us.begin(), ended.us.end());
  const auto at = [&](size_t thousandths) {
    return ended.us.empty()
               ? 0.0f
               : ended.us[std::min(ended.us.size() - 1, ended.us.size() * thousandths / 1000)];
  };
  const double seconds = absl::ToDoubleSeconds(clock_.Now() - ended.begin);
  nlohmann::ordered_json line = {{"phase", ended.name},
                                 {"seconds", seconds},
                                 {"batches", ended.us.size()},
                                 {"rows", ended.rows},
                                 {"rows_per_s", static_cast<double>(ended.rows) / seconds},
                                 {"p50_us", at(500)},
                                 {"p99_us", at(990)},
                                 {"most_us", at(1000)},
                                 {"failed", ended.failed},
                                 {"wrong", ended.wrong}};
  line.update(RoutingJson(ended.routing, routing));
  return line.dump();
}

void Load::Stop() {
  stopped_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "cluster_load: %s\n", status.ToString().c_str());
  return 1;
}

int Main(int argc, char** argv) {
  CLI::App app("A load that checks every row, in phases that standard input names");
  Flags flags;
  app.add_option("--target", flags.target)->required();
  app.add_option("--table-set", flags.table_set, "the synthetic set that the target serves")
      ->required();
  app.add_option("--token-ids", flags.token_ids, "raw int32")->required();
  app.add_option("--clients", flags.clients)->check(CLI::Range(1, 64));
  app.add_option("--batch-tokens", flags.batch_tokens)->check(CLI::Range(1, 4096));
  app.add_option("--attach-timeout", flags.attach_timeout, "seconds");
  app.add_option("--metrics-listen", flags.metrics_listen, "ADDRESS:PORT; none: nowhere");
  CLI11_PARSE(app, argc, argv);
  Load load(flags);
  if (absl::Status status = load.Attach(); !status.ok()) return Fail(status);
  const auto metrics = std::make_shared<ClientCollectable>();
  std::unique_ptr<prometheus::Exposer> exposer;
  if (!flags.metrics_listen.empty()) {
    for (size_t i = 0; i < load.clients().size(); ++i) {
      metrics->Add(load.clients()[i], absl::StrCat("client ", i));
    }
    exposer = std::make_unique<prometheus::Exposer>(flags.metrics_listen);
    exposer->RegisterCollectable(metrics);
  }
  const absl::Status started = load.Start();
  if (started.ok()) {
    std::cout << "ready" << std::endl;
    std::string name;
    while (std::getline(std::cin, name)) {
      if (const std::string line = load.Begin(name); !line.empty()) std::cout << line << std::endl;
    }
    if (const std::string line = load.Begin(""); !line.empty()) std::cout << line << std::endl;
  }
  load.Stop();
  return started.ok() ? 0 : Fail(started);
}

}  // namespace
}  // namespace engram::demo

int main(int argc, char** argv) {
  engram::KeepFreedMemory();  // as the programs that are delivered do
  return engram::demo::Main(argc, argv);
}
