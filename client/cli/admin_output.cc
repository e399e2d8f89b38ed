#include "client/cli/admin_output.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "client/cli/provenance_json.h"
#include "memstore/base/human_units.h"
#include "memstore/base/message_line.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/table/side_files.h"

namespace engram::cli {
namespace {

constexpr char kServing[] = "serving";
constexpr char kFenced[] = "fenced";
// What to do about a fenced set that its name still waits for.
constexpr char kFencedFix[] =
    "its memory was damaged, and no batch gets rows of it: start engramd again, or publish its "
    "directory again or another set of its name, or retire it (gRPC's health service says "
    "NOT_SERVING until one "
    "of these is done)";
constexpr char kReplacedText[] =
    "its memory was damaged, and its name leads to another set or was taken from it: clients that "
    "still have it get DATA_LOSS until they attach again";
// Digits of an id that tell sets apart, and that retire takes.
constexpr size_t kShownDigits = 12;

std::string ShortId(const std::string& id) { return QuoteForMessage(id.substr(0, kShownDigits)); }

std::string SpanText(uint64_t seconds) {
  return HumanTime(absl::Seconds(static_cast<int64_t>(seconds)));
}

std::string HeldBy(const AdminTableSet& set) {
  std::string text;
  const auto add = [&](uint32_t count, const char* what) {
    if (count > 0) absl::StrAppend(&text, text.empty() ? "" : ", ", count, " ", what);
  };
  add(set.mapped, "mapped");
  add(set.rings, "ring");
  add(set.rdma, "rdma");
  add(set.rdma_read, "rdma-read");
  add(set.holdings, "holdings");
  if (set.idle_s) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", "gRPC ", SpanText(*set.idle_s), " ago");
  }
  return text.empty() ? "nobody" : text;
}

bool Serves(const AdminList& list) {
  return absl::c_any_of(list.table_sets, [](const auto& set) { return set.state == kServing; });
}

// Ids of fenced sets: of those that nobody asks for by their name, and of those whose name waits.
struct Fenced {
  std::vector<std::string> replaced;
  std::vector<std::string> missed;
};

// What an engramd that does not say is taken to mean.
bool NameLeadsNowhere(const AdminList& list, const AdminTableSet& set) {
  return absl::c_none_of(list.table_sets, [&](const AdminTableSet& other) {
    return other.state == kServing && other.name == set.name;
  });
}

Fenced FencedOf(const AdminList& list) {
  Fenced fenced;
  for (const AdminTableSet& set : list.table_sets) {
    if (set.state != kFenced) continue;
    const bool missed = set.missed ? *set.missed : NameLeadsNowhere(list, set);
    (missed ? fenced.missed : fenced.replaced).push_back(set.id);
  }
  return fenced;
}

// "table set 0123456789ab is fenced: WHAT" for one or several.
std::string FencedText(const std::vector<std::string>& ids, absl::string_view what) {
  return absl::StrCat(ids.size() == 1 ? "table set " : "table sets ",
                      absl::StrJoin(ids, ", ",
                                    [](std::string* out, const std::string& id) {
                                      absl::StrAppend(out, ShortId(id));
                                    }),
                      ids.size() == 1 ? " is fenced: " : " are fenced: ", what);
}

// engramd's own state stays SERVING when it is not ready: when a set is fenced that its name waits
// for. A line of its own says then which.
std::string StateText(const AdminList& list, bool misses_fenced) {
  if (list.state != "SERVING" || list.ready.value_or(true)) return QuoteForMessage(list.state);
  return absl::StrCat("NOT READY: ", misses_fenced ? "a table set is fenced" : list.why_not_ready);
}

std::string Dumped(const nlohmann::ordered_json& json) {
  // In ASCII alone: what a name holds may turn a terminal's text around, or steer it.
  return json.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string ListText(const AdminList& list) {
  const Fenced fenced = FencedOf(list);
  std::string text = absl::StrCat("engramd is ", StateText(list, !fenced.missed.empty()),
                                  Serves(list) ? "" : ", and serves no table set", "\n");
  for (const AdminTableSet& set : list.table_sets) {
    absl::StrAppendFormat(&text, "%-24s %s  %-10s %11s  for %s, held by %s%s\n",
                          QuoteForMessage(set.name), ShortId(set.id), QuoteForMessage(set.state),
                          HumanBytes(set.resident_bytes), SpanText(set.age_s), HeldBy(set),
                          set.generation ? absl::StrCat(", generation ", *set.generation) : "");
    if (!set.held.empty()) {
      absl::StrAppend(&text, "    holds ", MessageLine(set.held), ", ",
                      HumanBytesOf(set.held_bytes, set.table_bytes), "\n");
    }
    if (set.provenance) {
      absl::StrAppend(&text, "    from ", MessageLine(ProvenanceText(*set.provenance)), "\n");
    }
  }
  if (!fenced.missed.empty()) {
    absl::StrAppend(&text, FencedText(fenced.missed, kFencedFix), "\n");
  }
  if (!fenced.replaced.empty()) {
    absl::StrAppend(&text, FencedText(fenced.replaced, kReplacedText), "\n");
  }
  if (list.loading) {
    absl::StrAppend(&text, "loading ", MessageLine(list.loading->directory), ": ",
                    HumanBytesOf(list.loading->bytes_done, list.loading->bytes_total), "\n");
  }
  return text;
}

std::string ListJson(const AdminList& list) {
  nlohmann::json json = {{"state", list.state}, {"table_sets", nlohmann::json::array()}};
  for (const AdminTableSet& set : list.table_sets) {
    nlohmann::json one = {{"name", set.name},
                          {"id", set.id},
                          {"directory", set.directory},
                          {"state", set.state},
                          {"resident_bytes", set.resident_bytes},
                          {"held_bytes", set.held_bytes},
                          {"table_bytes", set.table_bytes},
                          {"held", set.held},
                          {"pages", set.pages},
                          {"leases",
                           {{"mapped", set.mapped},
                            {"ring", set.rings},
                            {"rdma", set.rdma},
                            {"rdma_read", set.rdma_read},
                            {"holdings", set.holdings}}},
                          {"age_s", set.age_s},
                          {"provenance", ProvenanceJson(set.provenance)}};
    if (set.idle_s) one["idle_s"] = *set.idle_s;
    if (set.generation) one["generation"] = *set.generation;
    if (set.missed) one["missed"] = *set.missed;
    json["table_sets"].push_back(std::move(one));
  }
  if (list.loading) {
    json["loading"] = {{"directory", list.loading->directory},
                       {"bytes_done", list.loading->bytes_done},
                       {"bytes_total", list.loading->bytes_total}};
  }
  if (list.ready) json["ready"] = *list.ready;
  if (!list.ready.value_or(true)) json["why_not_ready"] = list.why_not_ready;
  return Dumped(json);
}

std::string PublishedText(const AdminPublished& published, const std::string& directory) {
  return absl::StrCat(QuoteForMessage(published.name), " now leads to ",
                      QuoteForMessage(published.id), " (", directory, ", ",
                      HumanBytes(published.bytes), " of rows)\n");
}

std::string PublishedJson(const AdminPublished& published, const std::string& directory) {
  nlohmann::ordered_json json = {{"id", published.id},
                                 {"name", published.name},
                                 {"directory", directory},
                                 {"bytes", published.bytes}};
  if (published.generation > 0) json["generation"] = published.generation;
  if (!published.warning.empty()) json["warning"] = published.warning;
  return Dumped(json);
}

std::string RetiredText(const AdminRetired& retired, const std::string& asked) {
  if (retired.was_fenced) {
    return absl::StrCat(QuoteForMessage(retired.name), " ", QuoteForMessage(retired.id),
                        " was fenced and is gone: nobody waits for it any more. Clients that still "
                        "have it attach again, to another set; publishing its directory serves it "
                        "again.\n");
  }
  const bool is_old = retired.id.empty();
  return absl::StrCat(
      is_old ? asked
             : absl::StrCat(QuoteForMessage(retired.name), " ", QuoteForMessage(retired.id)),
      " is not found by its name any more. Clients that have it keep it until they let go, ",
      is_old ? std::string("until the grace is over")
             : absl::StrCat("for ", SpanText(retired.grace_s)),
      " at the latest (engramd's --retire-grace-s). Then batches for it are refused and its memory "
      "is freed. Until then `engram admin list` shows who has it, and publishing its directory "
      "again takes it back.\n");
}

std::string RetiredJson(const AdminRetired& retired, const std::string& asked) {
  nlohmann::ordered_json json;
  json["asked"] = asked;
  if (!retired.id.empty()) {
    json["id"] = retired.id;
    json["name"] = retired.name;
    json["grace_s"] = retired.grace_s;
    if (retired.was_fenced) json["was_fenced"] = true;
  }
  return Dumped(json);
}

absl::StatusOr<Scrubbed> CheckScrubbed(uint64_t bytes, const AdminList& list) {
  Fenced fenced = FencedOf(list);
  if (!fenced.missed.empty()) {
    return absl::DataLossError(absl::StrCat(
        FencedText(fenced.missed, kFencedFix), "; ",
        bytes == 0 ? "nothing was verified, for no table set is in memory"
                   : absl::StrCat("of the others ", HumanBytes(bytes), " held every checksum")));
  }
  if (bytes > 0) return Scrubbed{bytes, std::move(fenced.replaced)};
  return absl::FailedPreconditionError(
      "nothing was verified, for no table set is in memory: publish one");
}

std::string ScrubbedText(const Scrubbed& scrubbed) {
  std::string text = absl::StrCat(HumanBytes(scrubbed.bytes), " in memory, every checksum held\n");
  if (!scrubbed.fenced.empty()) {
    absl::StrAppend(&text, "not verified: ", FencedText(scrubbed.fenced, kReplacedText), "\n");
  }
  return text;
}

std::string ScrubbedJson(const Scrubbed& scrubbed) {
  nlohmann::ordered_json json;
  json["bytes"] = scrubbed.bytes;
  json["fenced"] = scrubbed.fenced;
  return Dumped(json);
}

}  // namespace engram::cli
