// engram admin: publish, retire and list the table sets of an engramd that serves.

#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "client/admin/grpc_admin.h"
#include "client/cli/provenance_json.h"
#include "client/cli/support/command.h"
#include "client/cli/support/target_flags.h"
#include "client/terminal/progress.h"
#include "memstore/table/side_files.h"

namespace engram::cli {
namespace {

struct AdminFlags {
  std::string address;
  SecurityOptions security;
  std::string directory;  // publish
  std::string table_set;  // retire
  bool json = false;      // list
};

absl::Status Publish(const AdminFlags& flags, AdminClient& engramd) {
  const auto published = [&] {
    Progress progress("publishing");
    return engramd.Publish(flags.directory,
                           [&](uint64_t done, uint64_t total) { progress.Update(done, total); });
  }();
  if (!published.ok()) return published.status();
  if (!published->warning.empty()) {
    std::fprintf(stderr, "warning: %s\n", published->warning.c_str());
  }
  return Print(absl::StrCat(published->name, " now leads to ", published->id, " (", flags.directory,
                            ", ", published->bytes, " bytes of rows)\n"));
}

absl::Status Retire(const AdminFlags& flags, AdminClient& engramd) {
  const absl::StatusOr<AdminRetired> retired = engramd.Retire(flags.table_set);
  if (!retired.ok()) return retired.status();
  const std::string set =
      retired->id.empty() ? flags.table_set : absl::StrCat(retired->name, " ", retired->id);
  const std::string latest = retired->id.empty() ? "until the grace is over"
                                                 : absl::StrCat("for ", retired->grace_s, " s");
  return Print(absl::StrCat(
      set, " is not found by its name any more. Clients that have it keep it until they let go, ",
      latest,
      " at the latest (engramd's --retire-grace-s). Then batches for it are refused and its memory "
      "is freed. Until then `engram admin list` shows who has it, and publishing its directory "
      "again takes it back.\n"));
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
  if (set.idle_s) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", "gRPC ", *set.idle_s, " s ago");
  }
  return text.empty() ? "nobody" : text;
}

std::string AsJson(const AdminList& list) {
  nlohmann::json json = {{"state", list.state}, {"table_sets", nlohmann::json::array()}};
  for (const AdminTableSet& set : list.table_sets) {
    nlohmann::json one = {{"name", set.name},
                          {"id", set.id},
                          {"directory", set.directory},
                          {"state", set.state},
                          {"resident_bytes", set.resident_bytes},
                          {"pages", set.pages},
                          {"leases",
                           {{"mapped", set.mapped},
                            {"ring", set.rings},
                            {"rdma", set.rdma},
                            {"rdma_read", set.rdma_read}}},
                          {"age_s", set.age_s},
                          {"provenance", ProvenanceJson(set.provenance)}};
    if (set.idle_s) one["idle_s"] = *set.idle_s;
    json["table_sets"].push_back(std::move(one));
  }
  if (list.loading) {
    json["loading"] = {{"directory", list.loading->directory},
                       {"bytes_done", list.loading->bytes_done},
                       {"bytes_total", list.loading->bytes_total}};
  }
  return json.dump(2) + "\n";
}

absl::Status List(const AdminFlags& flags, AdminClient& engramd) {
  const absl::StatusOr<AdminList> list = engramd.List();
  if (!list.ok()) return list.status();
  if (flags.json) return Print(AsJson(*list));
  std::string text = absl::StrCat("engramd is ", list->state, "\n");
  for (const AdminTableSet& set : list->table_sets) {
    absl::StrAppendFormat(&text, "%-24s %.12s  %-10s %9.2f GB  for %d s, held by %s\n", set.name,
                          set.id, set.state, static_cast<double>(set.resident_bytes) / 1e9,
                          set.age_s, HeldBy(set));
    if (set.provenance) absl::StrAppend(&text, "    from ", ProvenanceText(*set.provenance), "\n");
  }
  if (list->loading) {
    absl::StrAppend(&text, "loading ", list->loading->directory, ": ", list->loading->bytes_done,
                    " of ", list->loading->bytes_total, " bytes\n");
  }
  return Print(text);
}

absl::Status Scrub(const AdminFlags&, AdminClient& engramd) {
  Progress progress("scrubbing");
  const auto bytes =
      engramd.Scrub([&](uint64_t done, uint64_t total) { progress.Update(done, total); });
  if (!bytes.ok()) return bytes.status();
  return Print(absl::StrCat(*bytes, " bytes in memory, every checksum held\n"));
}

// gRPC would look a path alone up as a host's name.
std::string AddressOf(const AdminFlags& flags) {
  const absl::string_view address = absl::StripPrefix(flags.address, "grpc:");
  return absl::StrCat(absl::StartsWith(address, "/") ? "unix:" : "", address);
}

// What is wrong with a directory to publish; nothing is "".
std::string WrongDirectory(const std::string& directory) {
  if (absl::StartsWith(directory, "/")) return "";
  std::error_code error;
  const std::filesystem::path here = std::filesystem::current_path(error) / directory;
  return absl::StrCat("\"", directory,
                      "\" is no whole path, and engramd would look for it from its own working "
                      "directory: give the path that engramd has for it (here it is ",
                      here.string(), ")");
}

void AddAction(CLI::App& admin, const char* name, const char* help,
               const std::shared_ptr<AdminFlags>& flags, CommandBody* chosen,
               absl::Status (*action)(const AdminFlags&, AdminClient&),
               const std::function<void(CLI::App&)>& add_flags) {
  CLI::App* const command = admin.add_subcommand(name, help);
  add_flags(*command);
  command
      ->add_option("--admin", flags->address,
                   "the operators' port: HOST:PORT or unix:PATH (or /PATH), as engramd's "
                   "--admin-grpc-listen")
      ->required()
      ->type_name("ADDR");
  AddSecurityFlags(*command, &flags->security);
  command->callback([flags, chosen, action] {
    *chosen = [flags, action] {
      const auto engramd = AdminClient::Create(AddressOf(*flags), flags->security);
      if (!engramd.ok()) return Finish(engramd.status(), kBadUsage);
      return Finish(action(*flags, **engramd));
    };
  });
}

}  // namespace

void AddAdminCommand(CLI::App& app, CommandBody* chosen) {
  CLI::App* const admin = app.add_subcommand(
      "admin",
      "Publish, retire, list and scrub the table sets of an engramd that serves.\n"
      "A name leads to one set; publishing another set of that name moves it, "
      "and clients follow at "
      "their next step.");
  admin->require_subcommand(1);
  const auto flags = std::make_shared<AdminFlags>();
  AddAction(*admin, "publish",
            "Load a table set beside those that are served, verify it, and move its name to it.",
            flags, chosen, Publish, [&](CLI::App& command) {
              command.add_option("directory", flags->directory, "whole path, as engramd sees it")
                  ->required()
                  ->check(WrongDirectory)
                  ->type_name("DIR");
            });
  AddAction(
      *admin, "retire",
      "Let a set's name lead to it no more: clients that have it keep it until they let go, or "
      "for engramd's --retire-grace-s, then it is refused and its memory is freed.",
      flags, chosen, Retire, [&](CLI::App& command) {
        command
            .add_option("table_set", flags->table_set,
                        "its name, its id, or 12 of the id's first digits or more, "
                        "as list shows them")
            ->required()
            ->type_name("NAME|ID");
      });
  AddAction(*admin, "list", "The table sets that are there, their state, and who holds them.",
            flags, chosen, List,
            [&](CLI::App& command) { command.add_flag("--json", flags->json, "as JSON"); });
  AddAction(*admin, "scrub", "Verify the memory of every table set now, as fast as it is read.",
            flags, chosen, Scrub, [](CLI::App&) {});
}

}  // namespace engram::cli
