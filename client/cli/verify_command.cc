// engram verify: reads a table set whole and says whether it is what was packed.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/support/command.h"
#include "client/cli/support/table_set_argument.h"
#include "client/terminal/progress.h"
#include "memstore/table/verify.h"

namespace engram::cli {
namespace {

int Run(const std::string& directory, uint32_t threads) {
  Progress progress("verifying");
  VerifyOptions options;
  options.threads = threads;
  options.on_progress = [&](uint64_t done, uint64_t total) { progress.Update(done, total); };
  absl::StatusOr<Manifest> manifest = VerifyTableSet(directory, options);
  progress.EndLine();
  if (!manifest.ok()) return Finish(manifest.status());
  return Finish(
      Print(absl::StrCat(directory, ": whole, every byte as packed (", manifest->name, ", ",
                         manifest->TableBytes(), " bytes of rows, id ", manifest->id, ")\n")));
}

}  // namespace

void AddVerifyCommand(CLI::App& app, CommandBody* chosen) {
  auto threads = std::make_shared<uint32_t>(0);
  CLI::App* command = AddTableSetCommand(
      app, "verify",
      "Read a table set whole and check every byte of it, and of the side files that are there,\n"
      "against its digests and checksums.\n"
      "Exit code 1 names the first file, block and byte range that is not what was packed.",
      chosen, [threads](const std::string& directory) { return Run(directory, *threads); });
  command->add_option("--threads", *threads, "readers (default: chosen from the cores)")
      ->check(CLI::Range(1u, kMaxTableThreads));
}

}  // namespace engram::cli
