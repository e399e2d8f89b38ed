#include "server/table_sets/set_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "memstore/store/arena.h"
#include "memstore/store/resident_pages.h"
#include "memstore/table/side_files.h"
#include "server/base/log.h"
#include "server/table_sets/table_set_manager.h"

namespace engram {

double Gigabytes(uint64_t bytes) { return static_cast<double>(bytes) / 1e9; }

namespace {

// "264 bytes, fp8_e4m3 of 264 values, scale 0.5": all that tells how a row is to be read.
std::string RowText(const LayerTableSpec& layer) {
  const RowEncoding& encoding = layer.encoding;
  std::string text = absl::StrCat(layer.row_bytes, " bytes, ", Name(encoding.kind));
  if (!encoding.label.empty()) absl::StrAppend(&text, " \"", encoding.label, "\"");
  if (encoding.dim != 0) absl::StrAppend(&text, " of ", encoding.dim, " values");
  if (encoding.global_scale != 0) {
    absl::StrAppendFormat(&text, ", scale %.9g", encoding.global_scale);
  }
  return text;
}

std::string LayersText(const Manifest& manifest) {
  return absl::StrJoin(manifest.layers, ", ", [](std::string* text, const LayerTableSpec& layer) {
    absl::StrAppend(text, layer.layer);
  });
}

// Less of a table on small pages is of no account: the last block of a layer, one that the kernel
// keeps in hand.
constexpr double kSmallPagesWorthAWarning = 0.1;

// "1.02 GB on transparent-huge, 0.01 GB on 4KiB pages".
std::string PagesText(const ResidentPages& pages) {
  std::string text;
  for (const auto& [kind, bytes] : ByKind(pages)) {
    if (bytes == 0) continue;
    absl::StrAppendFormat(&text, "%s%.2f GB on %s", text.empty() ? "" : ", ", Gigabytes(bytes),
                          Name(kind));
  }
  return absl::StrCat(text.empty() ? "0 GB on any" : text, " pages");
}

}  // namespace

std::string ShapeChange(const Manifest& before, const Manifest& now) {
  std::string text;
  const auto compare = [&text](const std::string& what, const std::string& was,
                               const std::string& is) {
    if (was == is) return false;
    absl::StrAppend(&text, text.empty() ? "" : "; ", what, ": ", was, " before, ", is, " now");
    return true;
  };
  compare("layers", LayersText(before), LayersText(now));
  compare("columns", absl::StrCat(before.scheme.Columns()), absl::StrCat(now.scheme.Columns()));
  for (const LayerTableSpec& layer : now.layers) {
    const LayerTableSpec* const old = before.FindLayer(layer.layer);
    if (old == nullptr) continue;
    if (compare(absl::StrCat("a row of layer ", layer.layer), RowText(*old), RowText(layer))) break;
  }
  return text;
}

absl::string_view Name(TableSetState state) {
  switch (state) {
    case TableSetState::kServing:
      return "serving";
    case TableSetState::kSuperseded:
      return "superseded";
    case TableSetState::kRetiring:
      return "retired";
    case TableSetState::kGone:
      return "gone";
    case TableSetState::kFenced:
      return "fenced";
  }
  return "?";
}

std::string HeldBy(const TableSetStatus& set) {
  constexpr const char* kLeaseNames[kLeaseKinds] = {"mapped", "ring", "rdma", "rdma-read",
                                                    "holdings"};
  std::string text;
  for (size_t i = 0; i < kLeaseKinds; ++i) {
    if (set.leases[i] == 0) continue;
    absl::StrAppend(&text, text.empty() ? "" : ", ", set.leases[i], " ", kLeaseNames[i]);
  }
  if (set.idle) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", "gRPC ", set.idle->count(), " s ago");
  }
  return text;
}

void LogLoaded(spdlog::logger& log, const TableSet& set, absl::Duration took, bool shareable) {
  const ResidentPages& pages = set.loaded_pages();
  const uint64_t bytes = set.held_row_bytes();
  const uint64_t whole = set.manifest().TableBytes();
  const double seconds = absl::ToDoubleSeconds(took);
  LogEvent(
      log, spdlog::level::info, "loaded",
      {{"table_set", set.name()},
       {"table_set_id", set.id()},
       {"directory", set.directory()},
       {"bytes", bytes},
       {"resident_bytes", set.resident_bytes()},
       {"seconds", seconds}},
      absl::StrFormat("loaded %s %s: %d %s, %.2f GB%s in %.1f s, every checksum held; resident: %s",
                      set.name(), set.id(), set.layers().size(),
                      set.layers().size() == 1 ? "layer" : "layers", Gigabytes(bytes),
                      bytes == whole ? "" : absl::StrFormat(" of %.2f GB", Gigabytes(whole)),
                      seconds, PagesText(pages)));
  if (const std::optional<Provenance>& source = set.side_files().provenance) {
    const std::string text = ProvenanceText(*source);
    LogEvent(log, spdlog::level::info, "provenance",
             {{"table_set", set.name()}, {"table_set_id", set.id()}, {"source", text}},
             absl::StrCat(set.name(), " ", set.id(), " is of ", text));
  }
  for (const WidthCalibration& width : set.calibrations()) {
    log.info("gathering rows of {} bytes on {} pages: {}", width.row_bytes,
             std::string(Name(width.page_kind)), width.gather.ToString());
  }
  const double small = static_cast<double>(pages.small);
  const double all = static_cast<double>(std::max<uint64_t>(1, pages.Total()));
  if (shareable && small > all * kSmallPagesWorthAWarning) {
    LogEvent(
        log, spdlog::level::warn, "small_pages",
        {{"table_set", set.name()}, {"table_set_id", set.id()}, {"share", small / all}},
        absl::StrFormat("%.0f %% of the tables that are shared lies on 4 KiB pages, which "
                        "makes lookups slower: %s",
                        small / all * 100, HowToGetHugePages(set.resident_bytes(), shareable)));
  }
}

}  // namespace engram
