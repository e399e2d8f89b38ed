// engram: pack, inspect and verify table sets, address token ids, look rows up, measure.

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "client/cli/command.h"

int main(int argc, char** argv) {
  using namespace engram::cli;
  // A reader that goes away is a write error with a message, not a silent death.
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app{
      "engram: table sets of n-gram memory: pack, inspect, verify, address, look up, measure.\n"
      "Exit codes: 0 done, 1 the work failed, 2 bad usage. `engram COMMAND --help` for each."};
  app.require_subcommand(1);
  CommandBody body;
  AddPackCommand(app, &body);
  AddVerifyCommand(app, &body);
  AddInspectCommand(app, &body);
  AddAddressCommand(app, &body);
  AddLookupCommand(app, &body);
  AddBenchCommand(app, &body);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    std::fprintf(stderr, "engram: %s\nTry: engram --help, or engram COMMAND --help\n", e.what());
    return kBadUsage;
  }
  return body();
}
