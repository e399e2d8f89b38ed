// Loads a table set as the server does and prints how long that took: "SECONDS BYTES PAGES".
// load_vs_fio.sh runs it. Exit status 0 loaded, 1 not, 2 bad usage.
#include <chrono>
#include <cstdint>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "memstore/store/arena.h"
#include "memstore/store/table_set.h"

namespace engram::bench {
namespace {

// Takes as much memory as the set will and gives it back. A virtual machine's host may have taken
// freed memory away; getting it back costs far more than loading does, and is not what is measured.
absl::Status TouchMemory(const std::string& directory) {
  const absl::StatusOr<Manifest> manifest = LoadManifest(directory);
  if (!manifest.ok()) return manifest.status();
  absl::StatusOr<Arena> arena = Arena::Map(manifest->TableBytes(), ArenaOptions());
  return arena.ok() ? arena->Populate(0, arena->bytes()) : arena.status();
}

int Main(int argc, char** argv) {
  std::string directory;
  bool touch_memory = false;
  LoadOptions options;
  CLI::App app("Loads a table set and prints how long that took");
  app.add_option("directory", directory, "the table set")->required();
  app.add_option("--threads", options.threads, "threads to load with");
  app.add_flag("--touch-memory", touch_memory, "first take as much memory and give it back");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }

  const absl::Status touched = touch_memory ? TouchMemory(directory) : absl::OkStatus();
  const auto begin = std::chrono::steady_clock::now();
  const auto set = touched.ok() ? TableSet::Load(directory, options) : touched;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  if (!set.ok()) {
    absl::FPrintF(stderr, "load_set: %s\n", set.status().ToString());
    return 1;
  }
  uint64_t bytes = 0;
  for (const LayerTableSpec& layer : (*set)->manifest().layers) {
    for (const ShardSpec& shard : layer.shards) bytes += shard.file_bytes;
  }
  absl::PrintF("%.4f %d %s\n", seconds.count(), bytes, Name((*set)->page_kind()));
  return 0;
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) { return engram::bench::Main(argc, argv); }
