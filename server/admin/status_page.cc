#include "server/admin/status_page.h"

#include <algorithm>
#include <functional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "memstore/table/side_files.h"
#include "proto/wire/version.h"

namespace engram {
namespace {

constexpr char kHead[] = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="10">
<title>engramd</title>
<style>
:root{--ink:#1c2430;--dim:#667085;--line:#e3e7ee;--card:#fff;--page:#f5f7fa;--blue:#2563eb;--red:#dc2626}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaf0;--dim:#98a2b3;--line:#2b3441;--card:#19202a;--page:#11161d;--blue:#60a5fa;--red:#f87171}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.45 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:960px;margin:0 auto;padding:16px}
header{display:flex;flex-wrap:wrap;align-items:center;gap:8px 14px;margin-bottom:14px}
h1{font-size:22px;margin:0}h2{font-size:15px;margin:0 0 10px}
.state{padding:3px 12px;border-radius:99px;font-weight:600;color:#fff;background:#16a34a}
.state.bad{background:var(--red)}.state.wait{background:#d97706}
.dim{color:var(--dim)}.small{font-size:13px}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px;margin-bottom:14px}
.grid{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(280px,1fr))}
.grid .card{margin:0;min-width:0}.grid{margin-bottom:14px}
.figure{display:flex;justify-content:space-between;align-items:baseline;margin-bottom:4px}
.figure b{font-size:20px;font-variant-numeric:tabular-nums}
svg{display:block;width:100%;height:72px}
.set{border-top:1px solid var(--line);padding:10px 0}.set:first-of-type{border-top:0;padding-top:0}
.tag{display:inline-block;padding:1px 8px;border-radius:99px;border:1px solid var(--line);font-size:12px;margin-right:6px}
.tag.fenced{color:#fff;background:var(--red);border-color:var(--red)}
code{font:13px/1.4 ui-monospace,monospace}
dl{display:grid;grid-template-columns:auto minmax(0,1fr);gap:3px 14px;margin:0}dd{margin:0;text-align:right;font-variant-numeric:tabular-nums}
.config{border-top:1px solid var(--line);padding:5px 0}.config:first-of-type{border-top:0}
</style></head><body><main>
)";

std::string Escape(absl::string_view text) {
  return absl::StrReplaceAll(
      text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

// 1234567 as 1.23 M.
std::string Short(double value) {
  constexpr const char* kUnits[] = {"", " k", " M", " G", " T"};
  int unit = 0;
  for (; value >= 1000 && unit < 4; ++unit) value /= 1000;
  if (value >= 100 || value == 0) return absl::StrFormat("%.0f%s", value, kUnits[unit]);
  return absl::StrFormat("%.3g%s", value, kUnits[unit]);
}

std::string Time(double seconds) {
  if (seconds <= 0) return "–";
  if (seconds < 1e-3) return absl::StrFormat("%.0f µs", seconds * 1e6);
  return absl::StrFormat("%.3g ms", seconds * 1e3);
}

std::string Age(double seconds) {
  if (seconds < 120) return absl::StrFormat("%.0f s", seconds);
  if (seconds < 7200) return absl::StrFormat("%.0f min", seconds / 60);
  if (seconds < 172800) return absl::StrFormat("%.0f h", seconds / 3600);
  return absl::StrFormat("%.0f d", seconds / 86400);
}

using Pick = std::function<double(const HistoryPoint&)>;

// The line of one series: the newest point is at the right edge.
std::string Line(absl::Span<const HistoryPoint> history, const Pick& pick, double most,
                 const char* colour) {
  std::string points;
  const double step = 300.0 / (History::kPoints - 1);
  for (size_t i = 0; i < history.size(); ++i) {
    const double x = 300 - step * static_cast<double>(history.size() - 1 - i);
    const double y = 68 - (most > 0 ? pick(history[i]) / most * 64 : 0);
    absl::StrAppendFormat(&points, "%.1f,%.1f ", x, y);
  }
  return absl::StrCat("<polyline fill=\"none\" stroke=\"var(", colour,
                      ")\" stroke-width=\"1.6\" vector-effect=\"non-scaling-stroke\" points=\"",
                      points, "\"/>");
}

std::string Chart(absl::Span<const HistoryPoint> history, const char* id, const char* title,
                  const std::string& now, const std::string& scale, const Pick& pick,
                  const Pick& second) {
  double most = 0;
  for (const HistoryPoint& point : history) {
    most = std::max(most, pick(point));
    if (second) most = std::max(most, second(point));
  }
  std::string lines = Line(history, pick, most, "--blue");
  if (second) absl::StrAppend(&lines, Line(history, second, most, "--red"));
  return absl::StrCat("<div class=\"card\" id=\"", id,
                      "\"><div class=\"figure\"><span class=\"dim\">", title, "</span><b>", now,
                      "</b></div><svg viewBox=\"0 0 300 72\" preserveAspectRatio=\"none\" "
                      "role=\"img\" aria-label=\"",
                      title,
                      "\"><line x1=\"0\" y1=\"68\" x2=\"300\" y2=\"68\" stroke=\"var(--line)\"/>",
                      lines, "</svg><div class=\"small dim\">", scale, "</div></div>");
}

std::string Charts(absl::Span<const HistoryPoint> history) {
  const HistoryPoint now = history.empty() ? HistoryPoint{} : history.back();
  double rows = 0;
  double requests = 0;
  double p99 = 0;
  for (const HistoryPoint& point : history) {
    rows = std::max(rows, point.rows_per_s);
    requests = std::max(requests, point.requests_per_s);
    p99 = std::max(p99, point.p99_s);
  }
  return absl::StrCat(
      "<div class=\"grid\">",
      Chart(
          history, "rows", "rows / s", Short(now.rows_per_s),
          absl::StrCat("last 10 min, most ", Short(rows)),
          [](const HistoryPoint& point) { return point.rows_per_s; }, nullptr),
      Chart(
          history, "requests", "lookups / s", Short(now.requests_per_s),
          absl::StrCat("last 10 min, most ", Short(requests)),
          [](const HistoryPoint& point) { return point.requests_per_s; }, nullptr),
      Chart(
          history, "latency", "p50 · p99", absl::StrCat(Time(now.p50_s), " · ", Time(now.p99_s)),
          absl::StrCat("last 10 min, most ", Time(p99), "; in the server, bucket bounds"),
          [](const HistoryPoint& point) { return point.p50_s; },
          [](const HistoryPoint& point) { return point.p99_s; }),
      "</div>");
}

std::string Header(const ServerSnapshot& snapshot) {
  const std::string why = snapshot.WhyNotReady();
  const bool wait = snapshot.state == LifeState::kLoading;
  return absl::StrCat(
      "<header><h1>engramd</h1><span id=\"state\" class=\"state",
      why.empty() ? "" : (wait ? " wait" : " bad"), "\">", Name(snapshot.state),
      "</span><span class=\"dim\">version ", kEngramVersion, ", up ",
      Age(absl::ToDoubleSeconds(snapshot.uptime)), "</span></header>",
      why.empty() ? "" : absl::StrCat("<div class=\"card\">", Escape(why), "</div>"));
}

// "layer 1: 9.45 M rows of 264 B, 2.5 GB in 10 shards".
std::string Layers(const TableSetStatus& set) {
  std::string text;
  for (const TableLayout& layer : set.layers) {
    absl::StrAppend(&text, "<br>layer ", layer.layer, ": ", Short(static_cast<double>(layer.rows)),
                    " rows of ", layer.row_bytes, " B, ",
                    Short(static_cast<double>(layer.rows * layer.row_bytes)), "B in ", layer.shards,
                    layer.shards == 1 ? " shard" : " shards");
  }
  return text;
}

// "1.02 GB on transparent-huge, 8.4 MB on 4KiB pages".
std::string Pages(const ResidentPages& pages) {
  std::string text;
  for (const auto& [kind, bytes] : ByKind(pages)) {
    if (bytes == 0) continue;
    absl::StrAppend(&text, text.empty() ? "" : ", ", Short(static_cast<double>(bytes)), "B on ",
                    Escape(Name(kind)));
  }
  return absl::StrCat(text.empty() ? "no" : text, " pages");
}

std::string Sets(const ServerSnapshot& snapshot) {
  constexpr const char* kKinds[kLeaseKinds] = {"mapped", "ring", "RDMA", "RDMA-read"};
  std::string text = "<div class=\"card\" id=\"sets\"><h2>Table sets</h2>";
  for (const TableSetStatus& set : snapshot.table_sets) {
    absl::StrAppend(&text, "<div class=\"set\"><span class=\"tag ", Name(set.state), "\">",
                    Name(set.state), "</span><b>", Escape(set.name), "</b> ", Pages(set.pages),
                    ", for ", Age(static_cast<double>(set.age.count())), "<br><code class=\"dim\">",
                    Escape(set.id), "</code><br><span class=\"small dim\">", Escape(set.directory));
    for (size_t kind = 0; kind < kLeaseKinds; ++kind) {
      if (set.leases[kind] == 0) continue;
      absl::StrAppend(&text, " · ", set.leases[kind], " ", kKinds[kind]);
    }
    if (set.idle) {
      absl::StrAppend(&text, " · gRPC ", Age(static_cast<double>(set.idle->count())), " ago");
    }
    if (set.provenance) {
      absl::StrAppend(&text, "<br>from ", Escape(ProvenanceText(*set.provenance)));
    }
    absl::StrAppend(&text, Layers(set), "</span></div>");
  }
  if (snapshot.loading) {
    absl::StrAppend(&text, "<div class=\"set\"><span class=\"tag\">loading</span>",
                    Escape(snapshot.loading->directory), " ",
                    Short(static_cast<double>(snapshot.loading->progress.bytes_done)), "B of ",
                    Short(static_cast<double>(snapshot.loading->progress.bytes_total)), "B</div>");
  }
  return absl::StrCat(text, "</div>");
}

std::string Figures(const ServerSnapshot& snapshot, const MetricSums& sums) {
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
  const auto entry = [](const char* what, const std::string& value) {
    return absl::StrCat("<dt>", what, "</dt><dd>", value, "</dd>");
  };
  const ScrubProgress& scrub = snapshot.scrub;
  return absl::StrCat(
      "<div class=\"grid\"><div class=\"card\" id=\"lookups\"><h2>Lookups since the start</h2><dl>",
      entry("answered", Short(static_cast<double>(ok))),
      entry("failed", Short(static_cast<double>(requests - ok))),
      entry("turned away", Short(static_cast<double>(rejected))),
      entry("in flight", absl::StrCat(sums.InFlight())),
      entry("rows", Short(static_cast<double>(rows))),
      "</dl></div><div class=\"card\" id=\"clients\"><h2>Clients and memory</h2><dl>",
      entry("gRPC streams", absl::StrCat(snapshot.grpc_streams)),
      entry("shared memory", absl::StrCat(snapshot.shm_clients)),
      entry("RDMA", absl::StrCat(snapshot.rdma_clients)),
      entry("scrubbed", absl::StrCat(Short(static_cast<double>(scrub.bytes_verified)), "B, ",
                                     scrub.passes, " passes")),
      entry("damages found", absl::StrCat(scrub.mismatches)), "</dl></div></div>");
}

std::string Configuration(absl::Span<const EffectiveField> fields) {
  std::string text = "<div class=\"card\" id=\"configuration\"><h2>Configuration</h2>";
  for (const EffectiveField& field : fields) {
    absl::StrAppend(&text, "<div class=\"config\"><code>", Escape(field.name), ": ",
                    Escape(field.value), "</code> <span class=\"small dim\">", Escape(field.source),
                    "</span></div>");
  }
  return absl::StrCat(text, "</div>");
}

}  // namespace

std::string MakeStatusPage(const ServerSnapshot& snapshot, const MetricSums& sums,
                           absl::Span<const HistoryPoint> history,
                           absl::Span<const EffectiveField> configuration) {
  return absl::StrCat(kHead, Header(snapshot), Charts(history), Sets(snapshot),
                      Figures(snapshot, sums), Configuration(configuration),
                      "</main></body></html>\n");
}

}  // namespace engram
