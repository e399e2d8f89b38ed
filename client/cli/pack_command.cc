// engram pack: a released checkpoint, a GGUF file, or synthetic rows, to a table set.

#include <cstdint>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/support/command.h"
#include "client/terminal/progress.h"
#include "client/terminal/stop_message.h"
#include "memstore/addressing/families.h"
#include "memstore/base/human_units.h"
#include "memstore/pack/gguf/pack_gguf.h"
#include "memstore/pack/named_rows.h"
#include "memstore/pack/output/output_place.h"
#include "memstore/pack/pack_checkpoint.h"
#include "memstore/pack/pack_options.h"
#include "memstore/pack/pack_synthetic.h"
#include "memstore/program/flag_text.h"

namespace engram::cli {
namespace {

struct PackFlags {
  std::string family;
  std::string checkpoint;
  std::string link;  // a checkpoint, too
  std::vector<std::string> gguf_tensors;
  bool synthetic = false;
  bool json = false;
  PackOptions options;
};

// The model's directory, whether its rows are copied or linked to; empty where there is none.
const std::string& CheckpointOf(const PackFlags& flags) {
  return flags.link.empty() ? flags.checkpoint : flags.link;
}

// Tensors that are named go with what they are in.
absl::Status CheckRowFlags(const PackFlags& flags) {
  if (!flags.options.rows.empty() && CheckpointOf(flags).empty()) {
    return absl::InvalidArgumentError(
        flags.options.gguf_file.empty()
            ? "--rows names tensors of a model: it goes with --checkpoint DIR or --link DIR"
            : "--rows names tensors of --checkpoint DIR; those of a GGUF file are named with "
              "--gguf-tensor");
  }
  if (!flags.gguf_tensors.empty() && flags.options.gguf_file.empty()) {
    return absl::InvalidArgumentError("--gguf-tensor goes with --gguf FILE");
  }
  absl::Status status = RowNames::Parse(flags.options.rows, "--rows").status();
  if (status.ok()) status = RowNames::Parse(flags.gguf_tensors, "--gguf-tensor").status();
  return status;
}

// What can be told to be wrong from the flags alone.
absl::Status CheckFlags(const PackFlags& flags, const Family& family) {
  const int sources = (flags.synthetic ? 1 : 0) + (flags.checkpoint.empty() ? 0 : 1) +
                      (flags.link.empty() ? 0 : 1) + (flags.options.gguf_file.empty() ? 0 : 1);
  if (sources != 1) {
    return absl::InvalidArgumentError(
        "give one of --checkpoint DIR (a released model), --link DIR (the same, whose rows stay "
        "where they are), --gguf FILE (a model in GGUF) and --synthetic (made-up rows)");
  }
  if (!flags.synthetic && !flags.options.layers.empty()) {
    return absl::InvalidArgumentError(
        "--layers goes with --synthetic: of a model all layers are packed");
  }
  if (flags.synthetic && (flags.options.reset_token_id || flags.options.use_stored_constants)) {
    return absl::InvalidArgumentError(
        "--reset-token-id and --use-stored-constants go with --checkpoint and --gguf: made-up rows "
        "have the family's own constants");
  }
  absl::Status status = CheckRowFlags(flags);
  if (status.ok()) status = CheckPackOptions(family, flags.options);
  if (status.ok() && !CheckpointOf(flags).empty()) {
    status = CheckOutputBesideCheckpoint(flags.options.output, CheckpointOf(flags));
  }
  if (status.ok() && flags.synthetic) status = CheckTokenMapGiven(family, flags.options);
  if (status.ok() && flags.synthetic) status = CheckSyntheticLayers(flags.options);
  if (!status.ok()) return status;
  return Derive(family, {flags.options.rows_per_head, flags.options.layers}).status();
}

// What a run says that is stopped while it writes.
std::string StopText(const std::string& partial, bool resumable) {
  return absl::StrCat(StandardErrorIsTerminal() ? "\n" : "", "engram: stopped; ",
                      resumable ? absl::StrCat("the same command goes on where it stopped: what is "
                                               "finished is in ",
                                               partial)
                                : absl::StrCat("the next run begins anew, and says so where ",
                                               partial, " has to be removed first"),
                      "\n");
}

absl::StatusOr<Manifest> Pack(const PackFlags& flags, const Family& family, PackOptions options) {
  if (flags.synthetic) return PackSynthetic(family, options);
  if (options.gguf_file.empty()) return PackCheckpoint(family, CheckpointOf(flags), options);
  options.rows = flags.gguf_tensors;
  return PackGguf(family, options);
}

std::string AsJson(const PackFlags& flags, const Manifest& manifest) {
  nlohmann::ordered_json json;
  json["id"] = manifest.id;
  json["name"] = manifest.name;
  json["family"] = manifest.scheme.family;
  json["output"] = flags.options.output;
  json["layers"] = manifest.layers.size();
  json["bytes"] = manifest.TableBytes();
  json["linked"] = !flags.link.empty();
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
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
  absl::StatusOr<Manifest> manifest = Pack(flags, **family, options);
  stop_message.reset();
  progress.EndLine();
  if (!manifest.ok()) return Finish(manifest.status());
  std::fprintf(stderr, "%s %s: %s, %s, %s of rows%s%s, id %s\n", options.link ? "linked" : "packed",
               options.output.c_str(), manifest->name.c_str(),
               Counted(manifest->layers.size(), "layer").c_str(),
               HumanBytes(manifest->TableBytes()).c_str(), options.link ? ", which stay in " : "",
               flags.link.c_str(), manifest->id.c_str());
  return flags.json ? Finish(Print(AsJson(flags, *manifest))) : kDone;
}

// Rows that were quantised already.
void AddRowOptions(CLI::App& command, PackFlags& flags) {
  command
      .add_option(
          "--rows", flags.options.rows,
          "tensors that are the rows as they are, joined row by row in this order, in place of the "
          "family's own; each is given by its name or by the end of it from a dot on, which one "
          "tensor a layer has; {piece} stands for the number of a piece, {layer} for a layer's. "
          "Codes and scales of NVFP4 with "
          "the table's own scale: --rows embed.weight,embed.weight_scale,embed.weight_scale_2; FP8 "
          "with a scale a row: --rows embed.weight,embed.weight_scale; INT4 in groups: --rows "
          "embed.qweight,embed.scales,embed.qzeros; in pieces: --rows "
          "shard_{piece}.weight,shard_{piece}.weight_scale. Needs --encoding")
      ->delimiter(',')
      ->check(RefuseEmpty)
      ->type_name("TENSOR,...");
  command
      .add_option("--encoding", flags.options.encoding,
                  "what rows that are packed as they are are called, for clients to know them "
                  "by: a plain name, as in nvfp4; it is part of the set's id (default with "
                  "--gguf: made from the tensor's type, as in gguf_q8_0)")
      ->check(RefuseEmpty)
      ->type_name("NAME");
  command
      .add_option("--gguf", flags.options.gguf_file,
                  "in place of --checkpoint: the model as GGUF, version 2 or 3; of a split "
                  "model (-00001-of-00003) any part. What its keys say of the addresses counts")
      ->check(RefuseEmpty)
      ->type_name("FILE");
  command
      .add_option("--gguf-tensor", flags.gguf_tensors,
                  "with --gguf: the table's tensor where it has another name than converters give; "
                  "as with --rows, several are joined")
      ->delimiter(',')
      ->check(RefuseEmpty)
      ->type_name("TENSOR,...");
}

// What the rows come from, and where they go.
void AddPlaceOptions(CLI::App& command, PackFlags& flags) {
  command.add_option("--family", flags.family, absl::StrCat("the model family: ", FamilyNames()))
      ->required()
      ->check(Suggest(absl::StrSplit(FamilyNames(), ", ")))
      ->type_name("NAME");
  command
      .add_option("--checkpoint", flags.checkpoint,
                  "the model's directory, with *.safetensors files and, where there is one, their "
                  "index; what a config.json beside them says of the addresses counts")
      ->check(RefuseEmpty)
      ->type_name("DIR");
  command
      .add_option("--link", flags.link,
                  "in place of --checkpoint: the set refers to the rows in the model's files and "
                  "holds their checksums, megabytes; its id is the packed set's; the files must "
                  "stay as and where they are")
      ->check(RefuseEmpty)
      ->type_name("DIR");
  command.add_flag("--synthetic", flags.synthetic, "made-up rows, for demos, tests and benchmarks");
  command.add_option("--output", flags.options.output, "a directory that is not there yet")
      ->required()
      ->type_name("DIR");
}

// How token ids lead to rows.
void AddAddressOptions(CLI::App& command, PackFlags& flags) {
  command
      .add_option("--token-map", flags.options.token_map_file,
                  "where the family hashes compressed ids: the map, int32 little-endian; it "
                  "is checked and kept in the set (default: made from the checkpoint's "
                  "tokenizer.json, or the one that the GGUF holds)")
      ->check(RefuseEmpty)
      ->type_name("FILE");
  command
      .add_option("--rows-per-head", flags.options.rows_per_head,
                  "base size of a table that is scaled (default: config.json's, or the family's)")
      ->check(CLI::Range(uint64_t{1}, kMaxLayerRows));
  command
      .add_option("--reset-token-id", flags.options.reset_token_id,
                  "of several end tokens that config.json lists, the one that ends a window")
      ->check(CLI::Range(uint32_t{0}, kMaxVocabSize - 1));
  command.add_flag("--use-stored-constants", flags.options.use_stored_constants,
                   "address by the constants that tensors of the checkpoint hold, also where the "
                   "recipe makes others");
  command
      .add_option("--layers", flags.options.layers,
                  "with --synthetic: layer numbers, ascending, as in 1,14 (default: the family's)")
      ->delimiter(',')
      ->check(RefuseEmpty)
      ->type_name("N,...");
}

}  // namespace

void AddPackCommand(CLI::App& app, CommandBody* chosen) {
  auto flags = std::make_shared<PackFlags>();
  CLI::App* command = app.add_subcommand(
      "pack",
      "Pack Engram tables into a table set: the directory that engramd serves.\n"
      "From a released model (safetensors or GGUF), or with made-up rows that prove themselves:\n"
      "  engram pack --family qwen4-exp --checkpoint MODEL --output SET\n"
      "  engram pack --family qwen4-exp --link MODEL --output SET    (no second copy of the rows)\n"
      "  engram pack --family qwen4-exp --gguf MODEL.gguf --output SET\n"
      "  engram pack --synthetic --family qwen4-exp --rows-per-head 20000 --output SET\n"
      "The set appears at SET when it is whole; nothing is ever written over. A run that was\n"
      "stopped or killed leaves .SET.partial: the same command goes on where it stopped.");
  AddPlaceOptions(*command, *flags);
  AddAddressOptions(*command, *flags);
  AddRowOptions(*command, *flags);
  command
      ->add_option("--name", flags->options.name,
                   "the name it is served under (default: the family's)")
      ->check(RefuseEmpty)
      ->type_name("NAME");
  command
      ->add_option("--source", flags->options.source,
                   "what the rows are of, as in OWNER/NAME@REVISION, for people who inspect or "
                   "serve the set; no part of its id. @REVISION may be absent, and so may OWNER/, "
                   "as in gpt2: any line is taken as a repository's name and not looked up "
                   "(default: what the path of a Hugging Face cache tells)")
      ->check(RefuseEmpty)
      ->type_name("SOURCE");
  command->add_flag("--json", flags->json,
                    "one JSON object on standard output, beside the lines on standard error");
  GroupFlags(*command, "Model and output",
             {"--family", "--checkpoint", "--link", "--gguf", "--synthetic", "--output", "--name",
              "--source"});
  GroupFlags(
      *command, "Addresses",
      {"--token-map", "--rows-per-head", "--reset-token-id", "--use-stored-constants", "--layers"});
  GroupFlags(*command, "Rows that are quantised already",
             {"--rows", "--encoding", "--gguf-tensor"});
  command->callback([flags, chosen] { *chosen = [flags] { return Run(*flags); }; });
}

}  // namespace engram::cli
