#include "server/metrics/exposition.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/metric_families.h"
#include "proto/wire/version.h"

namespace engram {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

class Families : public MetricFamilies {
 public:
  explicit Families(const char* prefix) : MetricFamilies(prefix) {}

  void Gauge(const char* name, const char* help, double value) {
    AddGauge(Begin(name, MetricType::Gauge, help), {}, value);
  }
  void Counter(const char* name, const char* help, double value) {
    AddCounter(Begin(name, MetricType::Counter, help), {}, value);
  }
  // Bounds are powers of `base` times `unit`; the sum is in units of `sum_unit`.
  template <size_t kBounds>
  static void AddHistogram(MetricFamily& family, Labels labels, const HistogramSum<kBounds>& sum,
                           double base, double unit, double sum_unit) {
    MetricFamilies::AddHistogram(family, std::move(labels), sum.counts, unit, base,
                                 static_cast<double>(sum.total) * sum_unit);
  }
};

void AddLookups(const MetricSums& sums, Families& out) {
  MetricFamily& requests = out.Begin("requests_total", MetricType::Counter,
                                     "Lookups answered, by the way they came and the code they "
                                     "ended with. A ring's piece counts as "
                                     "one. Clients that map the tables (shm) and RDMA readers "
                                     "gather by themselves: engramd does not "
                                     "see their lookups, the SDK counts them.");
  for (size_t path = 0; path < kPaths; ++path) {
    for (size_t code = 0; code < kStatusCodes; ++code) {
      // Each way has its OK from the start, so that rates have a beginning.
      if (code != 0 && sums.requests[path][code] == 0) continue;
      Families::AddCounter(
          requests,
          {{"transport", kPathNames[path]},
           {"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}},
          static_cast<double>(sums.requests[path][code]));
    }
  }
  MetricFamily& rows = out.Begin("rows_total", MetricType::Counter, "Rows sent in answers.");
  for (size_t path = 0; path < kPaths; ++path) {
    Families::AddCounter(rows, {{"transport", kPathNames[path]}},
                         static_cast<double>(sums.rows[path]));
  }
  MetricFamily& bytes = out.Begin("reply_bytes_total", MetricType::Counter,
                                  "Bytes of rows sent in answers, framing left out.");
  for (size_t path = 0; path < kPaths; ++path) {
    Families::AddCounter(bytes, {{"transport", kPathNames[path]}},
                         static_cast<double>(sums.bytes[path]));
  }
  MetricFamily& tokens = out.Begin(
      "tokens_total", MetricType::Counter,
      "Tokens of lookups by token ids, which engramd addressed: live, and dead ones (an image's), "
      "whose rows are the padding's. Lookups by row ids have none.");
  Families::AddCounter(tokens, {{"state", "live"}},
                       static_cast<double>(sums.tokens - sums.dead_tokens));
  Families::AddCounter(tokens, {{"state", "dead"}}, static_cast<double>(sums.dead_tokens));
  out.Counter("token_lookups_total", "Lookups by token ids.",
              static_cast<double>(sums.token_lookups));
  out.Counter("all_dead_lookups_total",
              "Lookups by token ids of which every one is dead: a client may mask too much.",
              static_cast<double>(sums.all_dead_lookups));
  out.Gauge("requests_in_flight", "Lookups that were read and are not answered yet.",
            static_cast<double>(sums.InFlight()));
  MetricFamily& rejections = out.Begin(
      "rejections_total", MetricType::Counter,
      "Lookups turned away: late (would have missed its deadline), queue_full, bytes_full "
      "(ids of too many batches), draining, unauthenticated, permission_denied.");
  for (size_t why = 0; why < kRejections; ++why) {
    Families::AddCounter(rejections, {{"reason", kRejectionNames[why]}},
                         static_cast<double>(sums.rejections[why]));
  }
}

void AddAttachRefusals(const ServerSnapshot& snapshot, Families& out) {
  MetricFamily& refusals = out.Begin(
      "attach_refusals_total", MetricType::Counter,
      "Clients that asked to attach and were refused, by the way they came and why: unknown_id and "
      "unknown_name (not served here), fenced, unauthenticated, permission_denied, version, "
      "not_offered, full, draining, invalid, other. The log says who.");
  for (size_t path = 0; path < kAttachPaths; ++path) {
    for (size_t why = 0; why < kAttachRefusals; ++why) {
      Families::AddCounter(
          refusals, {{"transport", kAttachPathNames[path]}, {"reason", kAttachRefusalNames[why]}},
          static_cast<double>(snapshot.attach_refusals[path][why]));
    }
  }
}

void AddAdminRefusals(const ServerSnapshot& snapshot, Families& out) {
  MetricFamily& refusals =
      out.Begin("admin_refusals_total", MetricType::Counter,
                "Operators' calls that were refused or failed, by method and code; other: of "
                "health, reflection and channelz. The log says who.");
  // Those by which somebody tries what he may not do are there from the beginning.
  AdminRefusals::Counts counts = snapshot.admin_refusals;
  for (size_t method = 0; method < kAdminMethods; ++method) {
    for (const absl::StatusCode code :
         {absl::StatusCode::kUnauthenticated, absl::StatusCode::kPermissionDenied}) {
      counts.try_emplace({static_cast<AdminMethod>(method), code}, 0);
    }
  }
  for (const auto& [of, count] : counts) {
    Families::AddCounter(refusals,
                         {{"method", kAdminMethodNames[static_cast<size_t>(of.first)]},
                          {"code", absl::StatusCodeToString(of.second)}},
                         static_cast<double>(count));
  }
}

void AddConnectionsEnded(const ConnectionsEnded& ended, Families& out) {
  MetricFamily& family =
      out.Begin("connections_ended_total", MetricType::Counter,
                "Connections over gRPC that were ended for what their clients sent. "
                "long_header_block: metadata without an end; idle_frames: resets, pings and the "
                "like beyond any client's; memory: most without an answer where memory was short; "
                "unread: bytes that gRPC "
                "had stopped to read, for nobody took its answers.");
  Families::AddCounter(family, {{"reason", "long_header_block"}},
                       static_cast<double>(ended.long_header_block));
  Families::AddCounter(family, {{"reason", "idle_frames"}}, static_cast<double>(ended.idle_frames));
  Families::AddCounter(family, {{"reason", "memory"}}, static_cast<double>(ended.memory));
  Families::AddCounter(family, {{"reason", "unread"}}, static_cast<double>(ended.unread));
}

void AddPartition(const ServerSnapshot& snapshot, Families& out) {
  MetricFamily& family =
      out.Begin("partition_info", MetricType::Gauge,
                "1, with what is held of every table set: K/N, columns (some), or all.");
  Families::AddGauge(family, {{"partition", snapshot.partition}}, 1);
}

void AddRegistration(const ServerSnapshot& snapshot, Families& out) {
  if (!snapshot.registration) return;
  out.Gauge("registered",
            "1 while its address is in etcd, as far as it knows; only where it registers.",
            snapshot.registration->registered ? 1 : 0);
  out.Counter("registration_failures_total",
              "Calls of etcd's that failed, and leases that were lost.",
              static_cast<double>(snapshot.registration->failures));
}

void AddTimes(const MetricSums& sums, Families& out) {
  MetricFamily& requests =
      out.Begin("request_seconds", MetricType::Histogram,
                "From a lookup's request, read, to its last row handed to the transport.");
  for (size_t path = 0; path < kPaths; ++path) {
    Families::AddHistogram(requests, {{"transport", kPathNames[path]}},
                           ByPowersOfTwo(sums.request_seconds[path]), 2, 1e-6, 1e-9);
  }
  MetricFamily& stages =
      out.Begin("stage_seconds", MetricType::Histogram,
                "Of lookups over gRPC. plan: parsed, checked, addressed; for each message of the "
                "answer queue: "
                "waiting for its turn and for memory, gather, send: until the transport took it.");
  for (size_t stage = 0; stage < kStages; ++stage) {
    Families::AddHistogram(stages, {{"stage", kStageNames[stage]}},
                           ByPowersOfTwo(sums.stage_seconds[stage]), 2, 1e-6, 1e-9);
  }
  MetricFamily& rows =
      out.Begin("batch_rows", MetricType::Histogram, "Rows of lookups that were answered.");
  Families::AddHistogram(rows, {}, sums.batch_rows, 4, 1, 1);
}

void AddTableSets(const ServerSnapshot& snapshot, Families& out) {
  MetricFamily& infos = out.Begin("table_set_info", MetricType::Gauge,
                                  "1 for each table set that is here: serving, superseded, retired "
                                  "(clients still have it) or fenced (damaged).");
  MetricFamily& missed = out.Begin("table_set_missed", MetricType::Gauge,
                                   "1 for a fenced table set whose name led to it and has led to "
                                   "no set since, which keeps engramd from being ready; 0 for all "
                                   "others.");
  MetricFamily& resident = out.Begin("resident_bytes", MetricType::Gauge,
                                     "Memory of table sets by the kind of page that it lies on, as "
                                     "the kernel counts it; counted anew at most once a second.");
  MetricFamily& held = out.Begin("held_bytes", MetricType::Gauge,
                                 "Of the rows of a table set that are held here, which are its "
                                 "partition's where it has one (--partition).");
  MetricFamily& all =
      out.Begin("table_bytes", MetricType::Gauge, "Of all rows of a table set, held here or not.");
  MetricFamily& generation =
      out.Begin("table_set_generation", MetricType::Gauge,
                "The number of a set's publication under its name, of those that are served. "
                "Replicas of one name have the same.");
  MetricFamily& leases = out.Begin("leases", MetricType::Gauge,
                                   "Clients that have a table set, by the way they have it; those "
                                   "over gRPC by what they say on a Holdings stream.");
  MetricFamily& ahead = out.Begin("gather_ahead_rows", MetricType::Gauge,
                                  "How many rows ahead the gather prefetches, by row width and "
                                  "pages; measured when the table set was loaded, unless given.");
  constexpr const char* kKinds[kLeaseKinds] = {"mapped", "ring", "rdma", "rdma_read", "holdings"};
  for (const TableSetStatus& set : snapshot.table_sets) {
    Families::AddGauge(
        infos, {{"name", set.name}, {"id", set.id}, {"state", std::string(Name(set.state))}}, 1);
    Families::AddGauge(missed, {{"name", set.name}, {"id", set.id}}, set.is_missed() ? 1 : 0);
    for (const auto& [kind, bytes] : ByKind(set.pages)) {
      Families::AddGauge(resident,
                         {{"name", set.name}, {"id", set.id}, {"pages", std::string(Name(kind))}},
                         static_cast<double>(bytes));
    }
    const Families::Labels labels = {{"name", set.name}, {"id", set.id}};
    Families::AddGauge(held, labels, static_cast<double>(set.held_bytes));
    Families::AddGauge(all, labels, static_cast<double>(set.table_bytes));
    if (const auto number = set.generation; number.has_value()) {
      Families::AddGauge(generation, labels, static_cast<double>(*number));
    }
    for (const WidthCalibration& width : set.calibrations) {
      Families::AddGauge(ahead,
                         {{"name", set.name},
                          {"id", set.id},
                          {"row_bytes", absl::StrCat(width.row_bytes)},
                          {"pages", std::string(Name(width.page_kind))}},
                         width.gather.ahead_rows);
    }
    for (size_t kind = 0; kind < kLeaseKinds; ++kind) {
      Families::AddGauge(leases, {{"name", set.name}, {"id", set.id}, {"kind", kKinds[kind]}},
                         set.leases[kind]);
    }
  }
  MetricFamily& load = out.Begin("load_bytes", MetricType::Gauge,
                                 "Of the table set that is being loaded; 0 of 0 between two.");
  const LoadProgress progress = snapshot.loading ? snapshot.loading->progress : LoadProgress{};
  Families::AddGauge(load, {{"what", "done"}}, static_cast<double>(progress.bytes_done));
  Families::AddGauge(load, {{"what", "total"}}, static_cast<double>(progress.bytes_total));
}

void AddScrub(const ServerSnapshot& snapshot, Families& out) {
  const ScrubProgress& scrub = snapshot.scrub;
  out.Gauge("scrub_limit_bytes_per_second", "What it may verify in a second; 0: it is off.",
            static_cast<double>(snapshot.scrub_bytes_per_s));
  out.Counter("scrub_bytes_total", "Bytes of tables verified again in memory.",
              static_cast<double>(scrub.bytes_verified));
  out.Counter("scrub_passes_total", "Times that all tables were verified again.",
              static_cast<double>(scrub.passes));
  out.Gauge("scrub_pass_ratio", "How far the pass under way is, 0 to 1.",
            scrub.pass_bytes_total == 0 ? 0
                                        : static_cast<double>(scrub.pass_bytes_done) /
                                              static_cast<double>(scrub.pass_bytes_total));
  out.Counter("checksum_failures_total", "Damages found in memory; each fences its table set.",
              static_cast<double>(scrub.mismatches));
}

void AddProcess(const ServerSnapshot& snapshot, Families& out) {
  MetricFamily& build = out.Begin("build_info", MetricType::Gauge, "1, with the version.");
  Families::AddGauge(build, {{"version", kEngramVersion}}, 1);
  MetricFamily& state = out.Begin("state", MetricType::Gauge,
                                  "1 for the state that engramd is in, 0 for the others.");
  for (const LifeState one : {LifeState::kLoading, LifeState::kServing, LifeState::kDraining}) {
    Families::AddGauge(state, {{"state", absl::AsciiStrToLower(Name(one))}},
                       one == snapshot.state ? 1 : 0);
  }
  out.Gauge("ready",
            "1 while it is ready, as /readyz says; 0 while it loads, drains, or has a fenced table "
            "set whose name leads to no other.",
            snapshot.WhyNotReady().empty() ? 1 : 0);
  out.Gauge("start_time_seconds", "When it was started, since 1970.", snapshot.start_time);
  out.Gauge("shm_clients", "Clients that have shared memory.", snapshot.shm_clients);
  out.Gauge("rdma_clients", "Clients attached over RDMA.", snapshot.rdma_clients);
  out.Gauge("grpc_streams", "Lookup streams that are open.", snapshot.grpc_streams);
  if (snapshot.certificate_expiry) {
    out.Gauge("tls_certificate_expiry_seconds",
              "When the certificate of the lookup port expires, since 1970.",
              *snapshot.certificate_expiry);
  }
  if (snapshot.tls_refused) {
    out.Gauge("tls_files_refused",
              "1 while TLS files cannot be used; the earlier ones stay in use.",
              *snapshot.tls_refused ? 1 : 0);
  }
  if (snapshot.tokens_refused) {
    out.Gauge("token_file_refused",
              "1 while the token file cannot be used; the earlier tokens stay in use.",
              *snapshot.tokens_refused ? 1 : 0);
  }
}

void AddMachine(const ServerSnapshot& snapshot, Families& out) {
  MetricFamily& nodes =
      out.Begin("numa_bytes", MetricType::Gauge,
                "Memory of this process by NUMA node, as the kernel counts it; counted anew every "
                "ten seconds at most.");
  for (const auto& [node, bytes] : snapshot.numa_bytes) {
    Families::AddGauge(nodes, {{"node", absl::StrCat(node)}}, static_cast<double>(bytes));
  }
  MetricFamily& pages = out.Begin("host_huge_page_bytes", MetricType::Gauge,
                                  "Reserved huge pages of the machine: total, and those that are "
                                  "free.");
  const ReservedHugePages& huge = snapshot.process.huge_pages;
  Families::AddGauge(pages, {{"state", "total"}}, static_cast<double>(huge.total_bytes));
  Families::AddGauge(pages, {{"state", "free"}}, static_cast<double>(huge.free_bytes));
}

// Names as every Prometheus client library has them, so that dashboards for any program find them.
void AddProcessStats(const ServerSnapshot& snapshot, Families& out) {
  const ProcessStats& process = snapshot.process;
  out.Counter("cpu_seconds_total", "Processor time, user and system, of all threads.",
              process.cpu_seconds);
  out.Gauge("resident_memory_bytes", "Resident memory; reserved huge pages are not part of it.",
            static_cast<double>(process.resident_bytes));
  out.Gauge("virtual_memory_bytes", "Virtual memory.", static_cast<double>(process.virtual_bytes));
  out.Gauge("threads", "Threads.", process.threads);
  out.Gauge("open_fds", "Open file descriptors.", process.open_files);
  out.Gauge("max_fds", "The most file descriptors that it may open.",
            static_cast<double>(process.most_open_files));
  out.Gauge("start_time_seconds", "When it was started, since 1970.", snapshot.start_time);
}

}  // namespace

std::string ExposeMetrics(const MetricSums& sums, const ServerSnapshot& snapshot) {
  Families families("engram_server_");
  AddProcess(snapshot, families);
  AddLookups(sums, families);
  AddAttachRefusals(snapshot, families);
  AddConnectionsEnded(snapshot.connections_ended, families);
  AddAdminRefusals(snapshot, families);
  AddPartition(snapshot, families);
  AddRegistration(snapshot, families);
  AddTimes(sums, families);
  AddTableSets(snapshot, families);
  AddScrub(snapshot, families);
  AddMachine(snapshot, families);
  Families process("process_");
  AddProcessStats(snapshot, process);
  std::vector<MetricFamily> all = families.Take();
  for (MetricFamily& family : process.Take()) all.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(all);
}

}  // namespace engram
