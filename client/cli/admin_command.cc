// engram admin: publish, retire and list the table sets of an engramd that serves.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/admin/grpc_admin.h"
#include "client/cli/admin_output.h"
#include "client/cli/support/addresses.h"
#include "client/cli/support/command.h"
#include "client/cli/support/target_flags.h"
#include "client/terminal/progress.h"

namespace engram::cli {
namespace {

struct AdminFlags {
  std::string address;
  SecurityOptions security;
  std::string directory;  // publish
  std::optional<uint64_t> generation;
  std::string table_set;  // retire
  bool json = false;
};

absl::Status Publish(const AdminFlags& flags, AdminClient& engramd) {
  const auto published = [&] {
    Progress progress("publishing");
    return engramd.Publish(flags.directory, flags.generation,
                           [&](uint64_t done, uint64_t total) { progress.Update(done, total); });
  }();
  if (!published.ok()) return published.status();
  if (!published->warning.empty()) {
    std::fprintf(stderr, "%s: %s\n", published->is_note ? "note" : "warning",
                 published->warning.c_str());
  }
  return Print(flags.json ? PublishedJson(*published, flags.directory)
                          : PublishedText(*published, flags.directory));
}

absl::Status Retire(const AdminFlags& flags, AdminClient& engramd) {
  const absl::StatusOr<AdminRetired> retired = engramd.Retire(flags.table_set);
  if (!retired.ok()) return retired.status();
  return Print(flags.json ? RetiredJson(*retired, flags.table_set)
                          : RetiredText(*retired, flags.table_set));
}

absl::Status List(const AdminFlags& flags, AdminClient& engramd) {
  const absl::StatusOr<AdminList> list = engramd.List();
  if (!list.ok()) return list.status();
  return Print(flags.json ? ListJson(*list) : ListText(*list));
}

absl::Status Scrub(const AdminFlags& flags, AdminClient& engramd) {
  const auto bytes = [&] {
    Progress progress("scrubbing");
    return engramd.Scrub([&](uint64_t done, uint64_t total) { progress.Update(done, total); });
  }();
  if (!bytes.ok()) return bytes.status();
  const absl::StatusOr<AdminList> list = engramd.List();
  if (!list.ok()) return list.status();
  const absl::StatusOr<Scrubbed> scrubbed = CheckScrubbed(*bytes, *list);
  if (!scrubbed.ok()) return scrubbed.status();
  return Print(flags.json ? ScrubbedJson(*scrubbed) : ScrubbedText(*scrubbed));
}

int Run(const AdminFlags& flags, absl::Status (*action)(const AdminFlags&, AdminClient&)) {
  const absl::StatusOr<std::string> address = AdminAddress(flags.address);
  if (!address.ok()) return Finish(address.status(), kBadUsage);
  if (absl::Status known = CheckHostIsKnown(*address); !known.ok()) return Finish(known);
  const auto engramd = AdminClient::Create(*address, WithEnvironment(flags.security));
  if (!engramd.ok()) return Finish(engramd.status(), kBadUsage);
  return Finish(action(flags, **engramd));
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

void AddAction(CLI::App& admin, const char* name, const char* help, CommandBody* chosen,
               absl::Status (*action)(const AdminFlags&, AdminClient&),
               const std::function<void(CLI::App&, AdminFlags&)>& add_flags) {
  CLI::App* const command = admin.add_subcommand(name, help);
  // Its own: variables are read for each action, also for those that were not chosen.
  const auto flags = std::make_shared<AdminFlags>();
  add_flags(*command, *flags);
  command
      ->add_option("--admin", flags->address,
                   "the operators' port: HOST:PORT or unix:PATH (or /PATH), as engramd's "
                   "--admin-grpc-listen (default: $ENGRAM_ADMIN)")
      ->required()
      ->envname("ENGRAM_ADMIN")
      ->type_name("ADDR");
  AddSecurityFlags(*command, &flags->security);
  command->add_flag("--json", flags->json, "one JSON object in place of text");
  command->callback(
      [flags, chosen, action] { *chosen = [flags, action] { return Run(*flags, action); }; });
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
  AddAction(*admin, "publish",
            "Load a table set beside those that are served, verify it, and move its name to it.",
            chosen, Publish, [](CLI::App& command, AdminFlags& flags) {
              command.add_option("directory", flags.directory, "whole path, as engramd sees it")
                  ->required()
                  ->check(WrongDirectory)
                  ->type_name("DIR");
              command
                  .add_option("--generation", flags.generation,
                              "the publication's number: of those of a name the highest counts, "
                              "and all engramds that serve it are given the same (default: one "
                              "more than the highest that this engramd has seen)")
                  ->check([](const std::string& number) {
                    return number.starts_with('-') ? "a number of 0 or more is wanted" : "";
                  })
                  ->type_name("N");
            });
  AddAction(
      *admin, "retire",
      "Let a set's name lead to it no more: clients that have it keep it until they let go, or "
      "for engramd's --retire-grace-s, then it is refused and its memory is freed. A fenced set "
      "goes at once.",
      chosen, Retire, [](CLI::App& command, AdminFlags& flags) {
        command
            .add_option("table_set", flags.table_set,
                        "its name, its id, or 12 of the id's first digits or more, "
                        "as list shows them")
            ->required()
            ->type_name("NAME|ID");
      });
  AddAction(*admin, "list", "The table sets that are there, their state, and who holds them.",
            chosen, List, [](CLI::App&, AdminFlags&) {});
  AddAction(*admin, "scrub", "Verify the memory of every table set now, as fast as it is read.",
            chosen, Scrub, [](CLI::App&, AdminFlags&) {});
}

}  // namespace engram::cli
