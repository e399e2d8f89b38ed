#include "server/admin/status_page.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "memstore/base/human_units.h"
#include "memstore/table/side_files.h"
#include "proto/wire/version.h"
#include "server/admin/status_chart.h"
#include "server/admin/status_style.h"
#include "server/admin/status_text.h"

namespace engram {
namespace {

std::string Card(absl::string_view id, absl::string_view title, absl::string_view contents) {
  return absl::StrCat("<div class=\"card\" id=\"", id, "\"><h2>", title, "</h2>", contents,
                      "</div>");
}

using Entries = std::vector<std::pair<absl::string_view, std::string>>;

std::string List(const Entries& entries) {
  std::string text = "<dl>";
  for (const auto& [what, value] : entries) {
    absl::StrAppend(&text, "<dt>", what, "</dt><dd>", value, "</dd>");
  }
  return absl::StrCat(text, "</dl>");
}

// Parts of a bar; `colour` is of status_style.h.
struct Part {
  absl::string_view colour;
  uint64_t size = 0;
};

std::string Bar(absl::Span<const Part> parts, uint64_t whole) {
  std::string text = "<div class=\"bar\">";
  for (const Part& part : parts) {
    if (part.size == 0 || whole == 0) continue;
    absl::StrAppendFormat(
        &text, "<span class=\"%s\" style=\"width:%.2f%%\"></span>", part.colour,
        100 * std::min(static_cast<double>(part.size) / static_cast<double>(whole), 1.0));
  }
  return absl::StrCat(text, "</div>");
}

// For people: SERVING is said of an engramd that is ready alone.
absl::string_view StateWord(const ServerSnapshot& snapshot) {
  return snapshot.state == LifeState::kServing && !snapshot.WhyNotReady().empty()
             ? "NOT READY"
             : Name(snapshot.state);
}

// "engram-store-0: SERVING"; of ten tabs each says which it is.
std::string Head(const ServerSnapshot& snapshot) {
  const std::string host = snapshot.host.empty() ? "engramd" : Escape(snapshot.host);
  return absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n<noscript><meta http-equiv=\"refresh\" "
      "content=\"10\"></noscript>\n<title>",
      host, ": ", StateWord(snapshot), " – engramd</title>\n<style>", kStatusStyle,
      "</style>\n<script src=\"statusz.js\" defer></script>\n</head><body>\n<p "
      "id=\"stale\">engramd "
      "does not answer. This is what it said last.</p>\n<main>\n");
}

std::string Header(const ServerSnapshot& snapshot) {
  const std::string why = snapshot.WhyNotReady();
  const bool wait = snapshot.state == LifeState::kLoading;
  std::string where;
  for (const std::string& address : snapshot.addresses) {
    absl::StrAppend(&where, where.empty() ? ", serves at " : ", ", "<code>", Escape(address),
                    "</code>");
  }
  return absl::StrCat("<header><h1>", snapshot.host.empty() ? "engramd" : Escape(snapshot.host),
                      "</h1><span id=\"state\" class=\"state ",
                      why.empty() ? "good" : (wait ? "wait" : "bad"), "\">", StateWord(snapshot),
                      "</span><p class=\"dim\">engramd ", kEngramVersion, where, ", up for ",
                      SpanText(snapshot.uptime), "</p></header>",
                      why.empty() || (wait && snapshot.loading)
                          ? ""
                          : absl::StrCat("<div class=\"card why", wait ? " slow" : "", "\">",
                                         EscapeSentence(why), "</div>"));
}

// "70.4 of 176.0 GiB (40 %)", with a bar.
std::string Done(uint64_t done, uint64_t total) {
  const Part part[] = {{.colour = "blue", .size = done}};
  return absl::StrCat(
      Bar(part, total), HumanBytesOf(done, total),
      total == 0
          ? ""
          : absl::StrCat(" (", PercentText(static_cast<double>(done) / static_cast<double>(total)),
                         ")"));
}

// ", 1.2 GiB per second, about 1 minute 30 seconds left", as far as it is known.
std::string TimeLeft(uint64_t done, uint64_t total, absl::Duration elapsed) {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  if (rate <= 0 || total < done) return "";
  return absl::StrCat(", ", HumanBytes(static_cast<uint64_t>(rate)), " per second, about <b>",
                      SpanText(absl::Seconds(static_cast<double>(total - done) / rate)),
                      "</b> left");
}

std::string Loading(const ServerSnapshot& snapshot) {
  if (!snapshot.loading) return "";
  const LoadProgress& progress = snapshot.loading->progress;
  const std::string one = absl::StrCat("<code>", Escape(snapshot.loading->directory), "</code>",
                                       Done(progress.bytes_done, progress.bytes_total));
  if (!snapshot.start_loads) {
    return Card("loading", "Loading a table set",
                absl::StrCat(one, TimeLeft(progress.bytes_done, progress.bytes_total,
                                           snapshot.loading->elapsed)));
  }
  // It serves when all are there: the time that counts is theirs.
  const StartLoads& all = *snapshot.start_loads;
  const uint64_t done = all.bytes_before + progress.bytes_done;
  return Card("loading", absl::StrCat("Loading table set ", all.number, " of ", all.sets),
              absl::StrCat(one, "<br>all ", all.sets, " table sets", Done(done, all.bytes_total),
                           TimeLeft(done, all.bytes_total, all.elapsed)));
}

std::string Charts(absl::Span<const HistoryPoint> history) {
  const Chart rows{.id = "rows",
                   .title = "Rows per second",
                   .series = {{"now", "blue", [](const auto& at) { return at.rows_per_s; }}},
                   .text = CountText};
  const Chart lookups{.id = "requests",
                      .title = "Lookups per second",
                      .series = {{"now", "blue", [](const auto& at) { return at.requests_per_s; }}},
                      .text = CountText};
  const Chart latency{.id = "latency",
                      .title = "Latency of lookups, in the server",
                      .series = {{"p50", "blue", [](const auto& at) { return at.p50_s; }},
                                 {"p99", "orange", [](const auto& at) { return at.p99_s; }}},
                      .text = TimeText,
                      .zero_is_nothing = true};
  return absl::StrCat("<div class=\"grid\">", MakeChart(rows, history), MakeChart(lookups, history),
                      MakeChart(latency, history), "</div>");
}

// Who gathers rows without engramd: no counter of its own sees them.
std::string NoteOnMappedClients(const ServerSnapshot& snapshot) {
  uint64_t mapped = 0;
  for (const TableSetStatus& set : snapshot.table_sets) {
    mapped += set.leases[static_cast<size_t>(LeaseKind::kMapped)] +
              set.leases[static_cast<size_t>(LeaseKind::kRdmaRead)];
  }
  if (mapped == 0) return "";
  return absl::StrCat("<div class=\"card small dim\" id=\"mapped\">",
                      Counted(mapped, "client reads", "clients read"),
                      " the tables in place (mapped over shared memory, or over RDMA). What "
                      "they look up is not counted on this page: their own metrics have it.</div>");
}

// "layer 1: 9.45 M rows of 264 bytes, 2.3 GiB in 10 shards".
std::string Layers(const TableSetStatus& set) {
  std::string text;
  for (const TableLayout& layer : set.layers) {
    absl::StrAppend(
        &text, "<br>layer ", layer.layer, ": ", CountText(static_cast<double>(layer.rows)),
        " rows of ", Counted(layer.row_bytes, "byte"), ", ",
        HumanBytes(layer.rows * layer.row_bytes), " in ", Counted(layer.shards, "shard"));
  }
  return text;
}

absl::string_view ColourOf(PageKind kind) {
  switch (kind) {
    case PageKind::kHugetlb2M:
      return "green";
    case PageKind::kTransparentHuge:
      return "blue";
    case PageKind::kSmall:
      break;
  }
  return "orange";
}

// "1.0 GiB on transparent-huge, 8.0 MiB on 4KiB pages", with a bar: small ones are what is wrong.
std::string Pages(const ResidentPages& pages) {
  std::string text;
  std::vector<Part> parts;
  for (const auto& [kind, bytes] : ByKind(pages)) {
    if (bytes == 0) continue;
    const Part& part = parts.emplace_back(Part{.colour = ColourOf(kind), .size = bytes});
    absl::StrAppend(&text, text.empty() ? "" : ", ", "<i class=\"", part.colour, "\"></i>",
                    HumanBytes(bytes), " on ", Escape(Name(kind)));
  }
  return absl::StrCat(Bar(parts, pages.Total()), text.empty() ? "no" : text, " pages");
}

std::string Clients(const TableSetStatus& set) {
  constexpr const char* kKinds[kLeaseKinds] = {"mapped", "ring", "RDMA", "RDMA-read", "holdings"};
  std::vector<std::string> texts;
  for (size_t kind = 0; kind < kLeaseKinds; ++kind) {
    if (set.leases[kind] > 0) texts.push_back(absl::StrCat(set.leases[kind], " ", kKinds[kind]));
  }
  if (set.idle) {
    texts.push_back(
        absl::StrCat("last asked for over gRPC ", SpanText(absl::FromChrono(*set.idle)), " ago"));
  }
  return texts.empty() ? "no clients" : absl::StrCat("clients: ", absl::StrJoin(texts, ", "));
}

std::string Sets(const ServerSnapshot& snapshot) {
  std::string text;
  for (const TableSetStatus& set : snapshot.table_sets) {
    // Nobody is served before all sets are loaded.
    const bool waits =
        snapshot.state == LifeState::kLoading && set.state == TableSetState::kServing;
    const char* colour = set.state == TableSetState::kFenced              ? "bad"
                         : set.state == TableSetState::kServing && !waits ? "good"
                                                                          : "wait";
    absl::StrAppend(&text, "<div class=\"item\"><span class=\"tag ", colour, "\">",
                    waits ? "loaded" : Name(set.state), "</span><b>", Escape(set.name), "</b> for ",
                    SpanText(absl::FromChrono(set.age)), Pages(set.pages),
                    "<br><code class=\"dim\">", Escape(set.id), "</code><br>",
                    "<span class=\"small dim\">", Escape(set.directory), "<br>", Clients(set));
    // Of what engramd was started with it is 0.
    if (set.generation.value_or(0) > 0) {
      absl::StrAppend(&text, "<br>generation ", *set.generation);
    }
    if (!set.held.empty()) {
      absl::StrAppend(&text, "<br>holds ", Escape(set.held), ", ",
                      HumanBytesOf(set.held_bytes, set.table_bytes));
    }
    if (set.provenance) {
      absl::StrAppend(&text, "<br>from ", Escape(ProvenanceText(*set.provenance)));
    }
    absl::StrAppend(&text, Layers(set), "</span></div>");
  }
  if (text.empty()) text = "<span class=\"dim\">none yet</span>";
  return Card("sets", "Table sets", text);
}

std::string Lookups(const MetricSums& sums) {
  uint64_t requests = 0;
  uint64_t ok = 0;
  uint64_t rows = 0;
  uint64_t rejected = 0;
  for (size_t path = 0; path < kPaths; ++path) {
    ok += sums.requests[path][0];
    rows += sums.rows[path];
    for (const uint64_t count : sums.requests[path]) requests += count;
  }
  for (const uint64_t count : sums.rejections) rejected += count;
  const auto share = [](uint64_t part, uint64_t of) {
    return of == 0 ? "–" : PercentText(static_cast<double>(part) / static_cast<double>(of));
  };
  return Card(
      "lookups", "Lookups since the start",
      List({{"answered", CountText(static_cast<double>(ok))},
            {"failed", CountText(static_cast<double>(requests - ok))},
            {"turned away", CountText(static_cast<double>(rejected))},
            {"in flight", CountText(static_cast<double>(sums.InFlight()))},
            {"rows", CountText(static_cast<double>(rows))},
            {"dead tokens", share(sums.dead_tokens, sums.tokens)},
            {"lookups of dead tokens alone", share(sums.all_dead_lookups, sums.token_lookups)}}));
}

std::string ClientsAndScrubbing(const ServerSnapshot& snapshot) {
  const ScrubProgress& scrub = snapshot.scrub;
  Entries entries = {{"gRPC streams", absl::StrCat(snapshot.grpc_streams)},
                     {"shared-memory clients", absl::StrCat(snapshot.shm_clients)},
                     {"RDMA clients", absl::StrCat(snapshot.rdma_clients)},
                     {"verified in memory", HumanBytes(scrub.bytes_verified)},
                     {"whole passes", CountText(static_cast<double>(scrub.passes))},
                     {"damaged blocks found", absl::StrCat(scrub.mismatches)}};
  if (snapshot.scrub_bytes_per_s == 0) entries[3].second = "off";
  if (snapshot.registration) {
    const uint64_t failures = snapshot.registration->failures;
    entries.emplace_back(
        "registered in etcd",
        absl::StrCat(snapshot.registration->registered ? "yes" : "no",
                     failures == 0 ? "" : absl::StrCat(", ", failures, " failures")));
  }
  return Card("clients", "Clients and scrubbing", List(entries));
}

std::string Process(const ServerSnapshot& snapshot) {
  const ProcessStats& process = snapshot.process;
  Entries entries = {
      {"processor time", SpanText(absl::Seconds(process.cpu_seconds))},
      {"resident memory", HumanBytes(process.resident_bytes)},
      {"threads", absl::StrCat(process.threads)},
      {"open files", absl::StrCat(process.open_files, " of ",
                                  CountText(static_cast<double>(process.most_open_files)))}};
  std::vector<std::string> nodes;
  for (const auto& [node, bytes] : snapshot.numa_bytes) {
    nodes.push_back(absl::StrCat("node ", node, ": ", HumanBytes(bytes)));
  }
  if (!nodes.empty()) entries.emplace_back("memory by node", absl::StrJoin(nodes, "<br>"));
  const ReservedHugePages& huge = process.huge_pages;
  entries.emplace_back(
      "huge pages of the host",
      huge.total_bytes == 0
          ? "none reserved"
          : absl::StrCat(HumanBytes(huge.free_bytes), " free of ", HumanBytes(huge.total_bytes)));
  return Card("process", "Process and host", List(entries));
}

std::string Refusals(const ServerSnapshot& snapshot) {
  if (snapshot.recent_refusals.empty()) {
    return Card("refusals", "Recent refusals", "<span class=\"dim\">none</span>");
  }
  std::string text =
      "<table><tr><th>last</th><th>who</th><th>why</th><th>times</th><th>what it was "
      "told</th></tr>";
  for (const RecentRefusal& refusal : snapshot.recent_refusals) {
    absl::StrAppend(&text, "<tr><td class=\"n\">", SpanText(refusal.ago), " ago</td><td>",
                    Escape(refusal.peer), "</td><td>", Escape(refusal.way), ": ",
                    Escape(refusal.reason), "</td><td class=\"n\">",
                    CountText(static_cast<double>(refusal.count)), " ×</td><td>",
                    EscapeSentence(refusal.message), "</td></tr>");
  }
  return Card("refusals", "Recent refusals", absl::StrCat(text, "</table>"));
}

std::string Configuration(absl::Span<const EffectiveField> fields) {
  std::string chosen;
  std::string defaults;
  size_t default_count = 0;
  for (const EffectiveField& field : fields) {
    const bool is_default = field.source == "default";
    default_count += is_default ? 1 : 0;
    absl::StrAppend(is_default ? &defaults : &chosen, "<div><code>", Escape(field.name), ": ",
                    Escape(field.value), "</code> <span class=\"small dim",
                    absl::StartsWith(field.source, "flag ") ? " flag" : "", "\">",
                    Escape(field.source), "</span></div>");
  }
  return Card("configuration", "Configuration",
              absl::StrCat(chosen, "<details id=\"defaults\"><summary>",
                           Counted(default_count, "setting has its", "settings have their"),
                           " default</summary>", defaults, "</details>"));
}

}  // namespace

std::string MakeStatusPage(const ServerSnapshot& snapshot, const MetricSums& sums,
                           absl::Span<const HistoryPoint> history,
                           absl::Span<const EffectiveField> configuration) {
  return absl::StrCat(
      Head(snapshot), Header(snapshot), Loading(snapshot), Charts(history),
      NoteOnMappedClients(snapshot), Sets(snapshot), "<div class=\"grid\">", Lookups(sums),
      ClientsAndScrubbing(snapshot), Process(snapshot), "</div>", Refusals(snapshot),
      Configuration(configuration),
      "<p class=\"small dim\">Also here: <a href=\"metrics\">metrics</a> for Prometheus, <a "
      "href=\"readyz\">readyz</a> and <a href=\"healthz\">healthz</a> for probes.</p></main></body>"
      "</html>\n");
}

absl::string_view StatusPageScript() { return kStatusPageScript; }

}  // namespace engram
