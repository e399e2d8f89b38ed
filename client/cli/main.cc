// engram: pack, inspect and verify table sets, address token ids, look rows up, measure; administer
// an engramd.

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/support/command.h"
#include "memstore/os/malloc_tuning.h"
#include "memstore/os/standard_streams.h"
#include "memstore/program/flag_text.h"
#include "memstore/program/help_format.h"
#include "memstore/program/parse_error.h"
#include "proto/wire/version.h"

namespace engram::cli {
namespace {

std::string CommandNames(const CLI::App& app) {
  std::string names;
  for (const CLI::App* command : Commands(app)) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", command->get_name());
  }
  return names;
}

ProgramTexts Texts() {
  return {
      .version = kEngramVersion,
      .section = "1",
      .exit_codes = {{"0", "done"},
                     {"1",
                      "the work failed; also: no engramd answers, or the table set that is "
                      "named is not served there"},
                     {"2", "bad usage; also: several table sets are served, and --set names none"}},
      .environment = {{"ENGRAM_TARGET", "--target of lookup and bench"},
                      {"ENGRAM_ADMIN", "--admin of admin"},
                      {"ENGRAM_TLS_CA", "--tls-ca, where a target is reached over gRPC"},
                      {"ENGRAM_TLS_CERT", "--tls-cert, in the same way"},
                      {"ENGRAM_TLS_KEY", "--tls-key, in the same way"},
                      {"ENGRAM_TLS_SERVER_NAME", "--tls-server-name, in the same way"},
                      {"ENGRAM_TLS_IDENTITIES",
                       "--tls-identity, in the same way; names separated by commas"},
                      {"ENGRAM_TOKEN_FILE", "--token-file, in the same way"},
                      {"ENGRAM_ETCD_CA", "--etcd-ca, where a target is cluster:etcd:..."},
                      {"ENGRAM_ETCD_CERT", "--etcd-cert, in the same way"},
                      {"ENGRAM_ETCD_KEY", "--etcd-key, in the same way"},
                      {"ENGRAM_ETCD_SERVER_NAME", "--etcd-server-name, in the same way"},
                      {"ENGRAM_ETCD_USER", "--etcd-user, in the same way"},
                      {"ENGRAM_ETCD_PASSWORD_FILE", "--etcd-password-file, in the same way"},
                      {"ENGRAM_ZONE",
                       "the zone that this client is in, for targets of several stores"}},
      .examples = {{"engram pack --checkpoint MODEL --family qwen4-exp --output SET\n"
                    "engram verify SET",
                    "Make a table set of a downloaded model, and check it:"},
                   {"engram lookup --target grpc:127.0.0.1:7300 --token-ids prompt.npy "
                    "--output rows.bin",
                    "Fetch the rows of some token ids:"},
                   {"engram bench --target shm:/run/engram/shm.sock --token-ids prompt.npy "
                    "--batch-tokens 1,64",
                    "Measure lookups over shared memory:"},
                   {"engram admin publish /tables/next --admin unix:/run/engram/admin.sock\n"
                    "engram admin list --admin unix:/run/engram/admin.sock",
                    "Serve another table set without a restart, and see who has which:"}},
      .see_also = {"engramd(8)", "/usr/share/doc/engram/README.md"}};
}

int Main(int argc, char** argv) {
  CLI::App app{
      "engram: table sets of n-gram memory: pack, inspect, verify, address, look up, measure; and\n"
      "administer an engramd that serves.\n"
      "`engram help COMMAND` explains each command. Variables hold what flags would say each "
      "time:\n"
      "a flag wins over its variable, and an empty variable says nothing.",
      "engram"};
  UseProgramTexts(app, Texts());
  app.require_subcommand(1);
  CommandBody body;
  AddPackCommand(app, &body);
  AddVerifyCommand(app, &body);
  AddInspectCommand(app, &body);
  AddPartitionPlanCommand(app, &body);
  AddTokenMapCommand(app, &body);
  AddAddressCommand(app, &body);
  AddLookupCommand(app, &body);
  AddBenchCommand(app, &body);
  AddAdminCommand(app, &body);
  AddVersionCommand(app, &body);
  AddHelpCommand(app, &body);  // last: it offers all others
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    std::ostringstream help;
    app.exit(e, help, help);
    return Finish(Print(help.str()));
  } catch (const CLI::ParseError& e) {
    std::string commands;
    if (app.get_subcommands().empty()) commands = "Commands: " + CommandNames(app) + "\n";
    std::fprintf(stderr, "engram: %s\n%sTry: %s\n", ExplainParseError(app, e).c_str(),
                 commands.c_str(), HelpFor(app).c_str());
    return kBadUsage;
  }
  return body();
}

}  // namespace
}  // namespace engram::cli

int main(int argc, char** argv) {
  engram::EnsureStandardStreams("engram");
  // gRPC's own lines say nothing that our errors do not; only where whoever started us did not
  // choose.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);  // NOLINT(concurrency-mt-unsafe): no threads
  engram::KeepFreedMemory();
  // A reader that goes away is a write error with a message, not a silent death.
  std::signal(SIGPIPE, SIG_IGN);
  // So is a file that gets longer than `ulimit -f` lets it.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    return engram::cli::Main(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fputs("engram: out of memory\n", stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "engram: %s\n", error.what());
  }
  return engram::cli::kFailed;
}
