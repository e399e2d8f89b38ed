// engram inspect: what a table set is, by its manifest and its side files alone.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/provenance_json.h"
#include "client/cli/support/command.h"
#include "client/cli/support/table_set_argument.h"
#include "memstore/base/human_units.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/partition/partition.h"
#include "memstore/store/held_blocks.h"
#include "memstore/table/linked_rows.h"
#include "memstore/table/manifest.h"
#include "memstore/table/side_files.h"

namespace engram::cli {
namespace {

// A checkpoint's files lie in one or a few; --json lists all.
constexpr size_t kMaxFoldersSaid = 8;

// The rows of each layer that a store would hold.
using Part = std::vector<HeldLayer>;

// What lies beside the manifest.
struct Sides {
  SideFiles read;
  std::vector<std::string> there;   // names
  std::optional<LinkedRows> links;  // where the rows lie, when that is not the set's directory
};

// Every file that the set consists of: the manifest and its digest, the token map, shards and their
// checksums; of a linked set the links in place of shards.
uint64_t CountFiles(const Manifest& manifest, const Sides& sides) {
  uint64_t files = 2 + (manifest.scheme.token_map ? 1 : 0) + (sides.links ? 1 : 0);
  for (const LayerTableSpec& layer : manifest.layers) {
    files += (sides.links ? 1 : 2) * layer.shards.size();
  }
  return files;
}

// The names of those that are there.
std::vector<std::string> SideFilesThere(const std::string& directory, const Manifest& manifest) {
  std::vector<std::string> there;
  for (const std::string& name : SideFileNames(manifest)) {
    std::error_code error;
    if (std::filesystem::exists(JoinPath(directory, name), error)) there.push_back(name);
  }
  return there;
}

// Null for a set that has its rows itself.
nlohmann::ordered_json LinkedToJson(const std::optional<LinkedRows>& links) {
  if (!links) return nullptr;
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const LinkedFile& file : links->files) {
    files.push_back({{"path", file.path}, {"bytes", file.bytes}});
  }
  return {{"folders", LinkedFolders(*links)}, {"files", files}};
}

// Null where it is not known, or no file was read.
nlohmann::ordered_json ReadFromToJson(const std::optional<Provenance>& source) {
  if (!source || (source->read_from.files.empty() && source->read_from.left_out == 0)) {
    return nullptr;
  }
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const SourceFile& file : source->read_from.files) {
    files.push_back({{"path", file.path},
                     {"bytes", file.bytes},
                     {"layers", file.layers},
                     {"tensors", file.tensors}});
  }
  return {{"files", files}, {"left_out", source->read_from.left_out}};
}

// What token ids become before they are hashed; null where they are hashed as they are.
nlohmann::ordered_json TokenMapJson(const AddressScheme& scheme) {
  if (!scheme.token_map) return nullptr;
  return {{"file", scheme.token_map->file},
          {"bytes", uint64_t{scheme.vocab_size} * sizeof(int32_t)},
          {"sha256", scheme.token_map->sha256},
          {"compressed_vocab_size", scheme.token_map->compressed_vocab_size}};
}

// Of an engramd that is started with that partition; null where none was asked about.
nlohmann::ordered_json PartToJson(const Manifest& manifest, const std::optional<Part>& part) {
  if (!part) return nullptr;
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const HeldLayer& layer : *part) {
    nlohmann::ordered_json ranges = nlohmann::ordered_json::array();
    for (const RowRange& range : layer.ranges) ranges.push_back({range.first, range.rows});
    layers.push_back(std::move(ranges));
  }
  return {{"held", HeldText(manifest, *part)},
          {"bytes", HeldRowBytes(manifest, *part)},
          {"row_ranges", layers}};
}

std::string AsJson(const Manifest& manifest, const Sides& sides, const std::optional<Part>& part) {
  const AddressScheme& scheme = manifest.scheme;
  nlohmann::ordered_json orders = nlohmann::ordered_json::array();
  for (uint32_t order = 2; order <= scheme.max_order; ++order) orders.push_back(order);
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const LayerTableSpec& layer : manifest.layers) {
    layers.push_back({{"layer", layer.layer},
                      {"rows", layer.rows},
                      {"row_bytes", layer.row_bytes},
                      {"encoding", std::string(Name(layer.encoding.kind))},
                      {"shards", layer.shards.size()}});
    if (!layer.encoding.label.empty()) layers.back()["label"] = layer.encoding.label;
    if (layer.encoding.global_scale != 0) {
      layers.back()["global_scale"] = layer.encoding.global_scale;
    }
  }
  const nlohmann::ordered_json out = {{"id", manifest.id},
                                      {"name", manifest.name},
                                      {"family", scheme.family},
                                      {"layers", layers},
                                      {"bytes", manifest.TableBytes()},
                                      {"files", CountFiles(manifest, sides)},
                                      {"orders", orders},
                                      {"heads", scheme.heads_per_order},
                                      {"columns", scheme.Columns()},
                                      {"vocab_size", scheme.vocab_size},
                                      {"token_map", TokenMapJson(scheme)},
                                      {"side_files", sides.there},
                                      {"image_token_ids", sides.read.image_token_ids},
                                      {"provenance", ProvenanceJson(sides.read.provenance)},
                                      {"linked_to", LinkedToJson(sides.links)},
                                      {"read_from", ReadFromToJson(sides.read.provenance)},
                                      {"part", PartToJson(manifest, part)}};
  return out.dump(2) + "\n";
}

// A line for each file that rows were read from. Paths and layers are another's: cut where they are
// long.
std::string ReadFromAsText(const ReadFrom& from) {
  std::string out;
  for (const SourceFile& file : from.files) {
    absl::StrAppend(&out, "  read ", QuotePathForMessage(file.path),
                    file.layers.size() == 1 ? ": layer " : ": layers ",
                    QuoteForMessage(absl::StrJoin(file.layers, ", ")), " (",
                    Counted(file.tensors, "tensor"), ", a file of ", HumanBytes(file.bytes), ")\n");
  }
  if (from.left_out > 0) {
    absl::StrAppend(&out, "  read ", Counted(from.left_out, "more file"), ", not listed\n");
  }
  return out;
}

std::string FoldersText(const LinkedRows& links) {
  std::vector<std::string> folders = LinkedFolders(links);
  const size_t said = std::min(folders.size(), kMaxFoldersSaid), others = folders.size() - said;
  folders.resize(said);
  const std::string text =
      absl::StrJoin(folders, ", ", [](std::string* out, const std::string& folder) {
        out->append(QuotePathForMessage(folder));
      });
  if (others == 0) return text;
  return absl::StrCat(text, " and ", Counted(others, "other folder"));
}

// Lines of what the side files say; none where there are none.
std::string SidesAsText(const Sides& sides) {
  std::string out;
  if (sides.links) {
    absl::StrAppend(&out, "linked  to files in ", FoldersText(*sides.links), "\n");
  }
  if (const std::optional<Provenance>& source = sides.read.provenance) {
    absl::StrAppend(&out, "source  ", ProvenanceText(*source), "\n");
    if (!source->index_sha256.empty()) {
      absl::StrAppend(&out, "        its index's SHA-256 ", source->index_sha256, "\n");
    }
    if (!source->headers_sha256.empty()) {
      absl::StrAppend(&out, "        its headers' SHA-256 ", source->headers_sha256, "\n");
    }
    absl::StrAppend(&out, ReadFromAsText(source->read_from));
  }
  if (!sides.read.image_token_ids.empty()) {
    absl::StrAppend(&out, "images  token ids ", absl::StrJoin(sides.read.image_token_ids, ", "),
                    "\n");
  }
  const auto pages = std::count_if(sides.there.begin(), sides.there.end(), [](const auto& name) {
    return absl::StrContains(name, kPageChecksumsKind);
  });
  if (pages > 0) {
    absl::StrAppend(&out, "pages   checksums of every 4 KiB page, in ",
                    Counted(static_cast<uint64_t>(pages), "file"), "\n");
  }
  return out;
}

// What few tables have, behind a table's line.
std::string NotesOf(const LayerTableSpec& layer) {
  std::string notes = layer.synthetic ? "  synthetic" : "";
  // With the digits that tell it from every other float.
  if (layer.encoding.global_scale != 0) {
    absl::StrAppendFormat(&notes, "  global scale %.9g", layer.encoding.global_scale);
  }
  return notes;
}

std::string AsText(const Manifest& manifest, const Sides& sides, const std::optional<Part>& part) {
  const AddressScheme& scheme = manifest.scheme;
  std::string out = absl::StrCat("name    ", manifest.name, "\nid      ", manifest.id, "\nfamily  ",
                                 scheme.family, "\n");
  absl::StrAppend(&out, "hashes  n-grams of 2..", scheme.max_order, " tokens, ",
                  scheme.heads_per_order, " heads each: ", scheme.Columns(),
                  " rows a token and layer; ",
                  scheme.token_map ? absl::StrCat("ids compressed by ", scheme.token_map->file,
                                                  " to ", scheme.token_map->compressed_vocab_size)
                                   : std::string("ids as they are"),
                  "\n");
  const uint64_t files = sides.links ? sides.links->files.size() : CountFiles(manifest, sides);
  absl::StrAppend(&out, "rows    ", ExactBytes(manifest.TableBytes()), " in ",
                  Counted(files, "file"), "\n");
  if (part) {
    const std::string held = HeldText(manifest, *part);
    absl::StrAppend(&out, "part    ", held.empty() ? "all columns" : held, ", ",
                    HumanBytesOf(HeldRowBytes(manifest, *part), manifest.TableBytes()), "\n");
  }
  absl::StrAppend(&out, SidesAsText(sides), "\n");
  absl::StrAppendFormat(&out, "%6s %14s %10s  %-24s %6s\n", "layer", "rows", "row bytes",
                        "encoding", "shards");
  for (const LayerTableSpec& layer : manifest.layers) {
    absl::StrAppendFormat(&out, "%6d %14d %10d  %-24s %6d%s\n", layer.layer, layer.rows,
                          layer.row_bytes,
                          absl::StrCat(EncodingName(layer.encoding), " x ", layer.encoding.dim),
                          layer.shards.size(), NotesOf(layer));
  }
  absl::StrAppend(
      &out,
      "\nOnly the manifest, where the rows are from, image token ids and links were read, "
      "and their digests hold; `engram verify` reads the rest.\n");
  return out;
}

absl::StatusOr<Sides> ReadSides(const std::string& directory, const Manifest& manifest) {
  Sides sides;
  ENGRAM_ASSIGN_OR_RETURN(sides.read, LoadSmallSideFiles(directory, "", manifest));
  ENGRAM_ASSIGN_OR_RETURN(sides.links, TakeLinkedRows(directory, manifest, sides.read));
  sides.there = SideFilesThere(directory, manifest);
  return sides;
}

struct Options {
  bool json = false;
  std::string partition;  // "K/N"; empty: none
};

absl::StatusOr<std::optional<Part>> PartOf(const std::string& partition, const Manifest& manifest) {
  if (partition.empty()) return std::nullopt;
  ENGRAM_ASSIGN_OR_RETURN(const PartitionIndex index, ParsePartitionIndex(partition));
  ENGRAM_ASSIGN_OR_RETURN(Part part, HeldBy(index, manifest));
  return part;
}

int Run(const std::string& directory, const Options& options) {
  absl::StatusOr<Manifest> manifest = LoadManifest(directory);
  if (!manifest.ok()) return Finish(manifest.status());
  const absl::StatusOr<Sides> sides = ReadSides(directory, *manifest);
  if (!sides.ok()) return Finish(sides.status());
  const absl::StatusOr<std::optional<Part>> part = PartOf(options.partition, *manifest);
  if (!part.ok()) return Finish(part.status());
  return Finish(
      Print(options.json ? AsJson(*manifest, *sides, *part) : AsText(*manifest, *sides, *part)));
}

}  // namespace

void AddInspectCommand(CLI::App& app, CommandBody* chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command = AddTableSetCommand(
      app, "inspect",
      "Say what a table set holds and where it is from: name, id, layers, sizes, source. Reads "
      "the\n"
      "manifest and the side files and checks their digests, not the rows: `engram verify` does.",
      chosen, [options](const std::string& directory) { return Run(directory, *options); });
  command->add_flag("--json", options->json, "one JSON object instead of text");
  command
      ->add_option("--partition", options->partition,
                   "say also what an engramd with this --partition holds of it")
      ->type_name("K/N");
}

}  // namespace engram::cli
