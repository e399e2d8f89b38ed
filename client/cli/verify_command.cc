// engram verify: reads a table set whole and says whether it is what was packed.

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/support/command.h"
#include "client/cli/support/table_set_argument.h"
#include "client/terminal/progress.h"
#include "memstore/base/human_units.h"
#include "memstore/table/verify.h"

namespace engram::cli {
namespace {

struct VerifyFlags {
  uint32_t threads = 0;
  bool json = false;
};

std::string AsJson(const std::string& directory, const Manifest& manifest) {
  nlohmann::ordered_json json;
  json["id"] = manifest.id;
  json["name"] = manifest.name;
  json["directory"] = directory;
  json["bytes"] = manifest.TableBytes();
  json["whole"] = true;
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

int Run(const std::string& directory, const VerifyFlags& flags) {
  Progress progress("verifying");
  VerifyOptions options;
  options.threads = flags.threads;
  options.on_progress = [&](uint64_t done, uint64_t total) { progress.Update(done, total); };
  absl::StatusOr<Manifest> manifest = VerifyTableSet(directory, options);
  progress.EndLine();
  if (!manifest.ok()) return Finish(manifest.status());
  if (flags.json) return Finish(Print(AsJson(directory, *manifest)));
  return Finish(Print(absl::StrCat(directory, ": whole, every byte as packed (", manifest->name,
                                   ", ", HumanBytes(manifest->TableBytes()), " of rows, id ",
                                   manifest->id, ")\n")));
}

}  // namespace

void AddVerifyCommand(CLI::App& app, CommandBody* chosen) {
  auto flags = std::make_shared<VerifyFlags>();
  CLI::App* command = AddTableSetCommand(
      app, "verify",
      "Read a table set whole and check every byte of it, and of the side files that are there,\n"
      "against its digests and checksums.\n"
      "Exit code 1 names the first file, block and byte range that is not what was packed.",
      chosen, [flags](const std::string& directory) { return Run(directory, *flags); });
  command->add_option("--threads", flags->threads, "readers (default: chosen from the cores)")
      ->check(CLI::Range(1u, kMaxTableThreads));
  command->add_flag("--json", flags->json, "one JSON object in place of a line, when it is whole");
}

}  // namespace engram::cli
