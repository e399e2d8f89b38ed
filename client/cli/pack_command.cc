// engram pack: a released checkpoint, or synthetic rows, to a table set.

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/terminal/progress.h"
#include "client/terminal/stop_message.h"
#include "memstore/addressing/families.h"
#include "memstore/pack/output/output_place.h"
#include "memstore/pack/pack_checkpoint.h"
#include "memstore/pack/pack_options.h"
#include "memstore/pack/pack_synthetic.h"

namespace engram::cli {
namespace {

struct PackFlags {
  std::string family;
  std::string checkpoint;
  std::string link;  // a checkpoint, too
  bool synthetic = false;
  PackOptions options;
};

// What can be told to be wrong from the flags alone.
absl::Status CheckFlags(const PackFlags& flags, const Family& family) {
  const int sources =
      (flags.synthetic ? 1 : 0) + (flags.checkpoint.empty() ? 0 : 1) + (flags.link.empty() ? 0 : 1);
  if (sources != 1) {
    return absl::InvalidArgumentError(
        "give one of --checkpoint DIR (a released model), --link DIR (the same, whose rows stay "
        "where they are) and --synthetic (made-up rows)");
  }
  if (!flags.synthetic && !flags.options.layers.empty()) {
    return absl::InvalidArgumentError(
        "--layers goes with --synthetic: of a checkpoint all layers are packed");
  }
  if (flags.synthetic && (flags.options.reset_token_id || flags.options.use_stored_constants)) {
    return absl::InvalidArgumentError(
        "--reset-token-id and --use-stored-constants go with --checkpoint: made-up rows have the "
        "family's own constants");
  }
  absl::Status status = CheckPackOptions(family, flags.options);
  if (status.ok() && !flags.synthetic) {
    status = CheckOutputBesideCheckpoint(flags.options.output,
                                         flags.link.empty() ? flags.checkpoint : flags.link);
  }
  if (status.ok() && flags.synthetic) status = CheckTokenMapGiven(family, flags.options);
  if (status.ok() && flags.synthetic) status = CheckSyntheticLayers(flags.options);
  if (!status.ok()) return status;
  return Derive(family, {flags.options.rows_per_head, flags.options.layers}).status();
}

// What a run says that is stopped while it writes.
std::string StopText(const std::string& partial, bool resumable) {
  return absl::StrCat(StandardErrorIsTerminal() ? "\n" : "", "engram: stopped; ",
                      resumable ? "the same command goes on where it stopped: what is finished "
                                  "is in "
                                : "this can't be gone on with: remove ",
                      partial, "\n");
}

int Run(const PackFlags& flags) {
  absl::StatusOr<const Family*> family = FindFamily(flags.family);
  if (!family.ok()) return Finish(family.status(), kBadUsage);
  absl::Status status = CheckFlags(flags, **family);
  if (!status.ok()) return Finish(status, kBadUsage);
  Progress progress(flags.link.empty() ? "packing" : "linking");
  std::optional<StopMessage> stop_message;
  PackOptions options = flags.options;
  options.link = !flags.link.empty();
  options.on_progress = [&](uint64_t done, uint64_t total) { progress.Update(done, total); };
  options.on_note = [&](const std::string& line) {
    progress.EndLine();
    std::fprintf(stderr, "%s\n", line.c_str());
  };
  options.writer.on_begin = [&](const std::string& partial, bool resumable) {
    stop_message.emplace(StopText(partial, resumable));
  };
  const std::string& checkpoint = options.link ? flags.link : flags.checkpoint;
  absl::StatusOr<Manifest> manifest = flags.synthetic
                                          ? PackSynthetic(**family, options)
                                          : PackCheckpoint(**family, checkpoint, options);
  stop_message.reset();
  progress.EndLine();
  if (!manifest.ok()) return Finish(manifest.status());
  const size_t layers = manifest->layers.size();
  std::fprintf(stderr, "%s %s: %s, %zu layer%s, %llu bytes of rows%s%s, id %s\n",
               options.link ? "linked" : "packed", options.output.c_str(), manifest->name.c_str(),
               layers, layers == 1 ? "" : "s",
               static_cast<unsigned long long>(manifest->TableBytes()),
               options.link ? ", which stay in " : "", flags.link.c_str(), manifest->id.c_str());
  return kDone;
}

}  // namespace

void AddPackCommand(CLI::App& app, CommandBody* chosen) {
  auto flags = std::make_shared<PackFlags>();
  CLI::App* command = app.add_subcommand(
      "pack",
      "Pack Engram tables into a table set: the directory that engramd serves.\n"
      "From a released model (safetensors), or with made-up rows that prove themselves:\n"
      "  engram pack --family qwen4-exp --checkpoint MODEL --output SET\n"
      "  engram pack --family qwen4-exp --link MODEL --output SET    (no second copy of the rows)\n"
      "  engram pack --synthetic --family qwen4-exp --rows-per-head 20000 --output SET\n"
      "The set appears at SET when it is whole; nothing is ever written over. A run that was\n"
      "stopped or killed leaves .SET.partial: the same command goes on where it stopped.");
  command->add_option("--family", flags->family, absl::StrCat("the model family: ", FamilyNames()))
      ->required();
  command->add_option(
      "--checkpoint", flags->checkpoint,
      "the model's directory, with *.safetensors files and, where there is one, their index; what "
      "a config.json beside them says of the addresses counts");
  command->add_option(
      "--link", flags->link,
      "in place of --checkpoint: the set refers to the rows in the model's files and holds their "
      "checksums, megabytes; its id is the packed set's; the files must stay as and where they "
      "are");
  command->add_flag("--synthetic", flags->synthetic,
                    "made-up rows, for demos, tests and benchmarks");
  command->add_option("--output", flags->options.output, "a directory that is not there yet")
      ->required();
  command->add_option("--token-map", flags->options.token_map_file,
                      "where the family hashes compressed ids: the map, int32 little-endian; it "
                      "is checked and kept in the set (default: made from the checkpoint's "
                      "tokenizer.json)");
  command
      ->add_option("--rows-per-head", flags->options.rows_per_head,
                   "base size of a table that is scaled (default: config.json's, or the family's)")
      ->check(CLI::Range(uint64_t{1}, kMaxLayerRows));
  command
      ->add_option("--reset-token-id", flags->options.reset_token_id,
                   "of several end tokens that config.json lists, the one that ends a window")
      ->check(CLI::Range(uint32_t{0}, kMaxVocabSize - 1));
  command->add_flag("--use-stored-constants", flags->options.use_stored_constants,
                    "address by the constants that tensors of the checkpoint hold, also where the "
                    "recipe makes others");
  command
      ->add_option("--layers", flags->options.layers,
                   "with --synthetic: layer numbers, ascending, as in 1,14 (default: the family's)")
      ->delimiter(',');
  command->add_option("--name", flags->options.name,
                      "the name it is served under (default: the family's)");
  command->add_option("--source", flags->options.source,
                      "what the rows are of, as in OWNER/NAME@REVISION, for people who inspect or "
                      "serve the set; no part of its id (default: what the path of a Hugging Face "
                      "cache tells)");
  command->callback([flags, chosen] { *chosen = [flags] { return Run(*flags); }; });
}

}  // namespace engram::cli
