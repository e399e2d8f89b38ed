#include "memstore/table/set_directory.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/side_file.h"
#include "memstore/table/side_files.h"

namespace engram {
namespace {

namespace fs = std::filesystem;

constexpr char kFix[] = "copy or pack the table set again";
constexpr char kLinkFix[] = ", or, if it was linked, link it again";

// The files that the set consists of; a size where the manifest fixes it. A linked set's rows lie
// elsewhere.
std::map<std::string, std::optional<uint64_t>> RequiredFiles(const Manifest& manifest,
                                                             bool linked) {
  std::map<std::string, std::optional<uint64_t>> files;
  files[kManifestFile] = std::nullopt;
  files[kManifestDigestFile] = std::nullopt;
  if (manifest.scheme.token_map) files[manifest.scheme.token_map->file] = std::nullopt;
  for (const LayerTableSpec& layer : manifest.layers) {
    for (const ShardSpec& shard : layer.shards) {
      if (!linked) files[shard.file] = shard.file_bytes;
      files[shard.checksum_file] = (1 + ShardBlocks(shard)) * sizeof(uint32_t);
    }
  }
  return files;
}

bool IsRegular(const fs::directory_entry& entry) {
  std::error_code error;
  return entry.symlink_status(error).type() == fs::file_type::regular;
}

absl::Status CheckRequired(const fs::directory_entry& entry, std::optional<uint64_t> bytes) {
  const std::string path = entry.path();
  if (!IsRegular(entry)) {
    return absl::DataLossError(absl::StrCat(path, " is not a regular file: ", kFix));
  }
  std::error_code error;
  const uint64_t found = entry.file_size(error);
  if (bytes && found != *bytes) {
    return absl::DataLossError(absl::StrCat(path, " has ", found, " bytes, the manifest says ",
                                            *bytes, ": it was ",
                                            found < *bytes ? "cut off" : "added to", "; ", kFix));
  }
  return absl::OkStatus();
}

// What is there beside the files that the set consists of: its side files, by their names.
absl::Status CheckOther(const fs::directory_entry& entry, const std::set<std::string>& side_files) {
  const std::string path = entry.path();
  if (side_files.count(entry.path().filename()) == 0) {
    return absl::DataLossError(absl::StrCat(
        QuotePathForMessage(path), " does not belong to the table set: remove it, or ", kFix));
  }
  return IsRegular(entry) ? absl::OkStatus() : DamagedSideFile(path, "is not a regular file");
}

// Which of the two the rows are could not be told.
absl::Status CheckNoShards(const std::string& directory, const Manifest& manifest,
                           const std::map<std::string, fs::directory_entry>& found) {
  for (const LayerTableSpec& layer : manifest.layers) {
    for (const ShardSpec& shard : layer.shards) {
      if (found.count(shard.file) == 0) continue;
      return absl::DataLossError(absl::StrCat(
          JoinPath(directory, shard.file), " holds rows, and ", JoinPath(directory, kLinksFile),
          " says that they lie in another place: a table set has the one or the other; remove ",
          "the shards, or remove the links where all shards are there"));
    }
  }
  return absl::OkStatus();
}

// A packed set that was copied in part has some of its shards; a linked one never had any.
bool HasNoShards(const Manifest& manifest,
                 const std::map<std::string, fs::directory_entry>& found) {
  return std::all_of(manifest.layers.begin(), manifest.layers.end(), [&](const auto& layer) {
    return std::none_of(layer.shards.begin(), layer.shards.end(),
                        [&](const ShardSpec& shard) { return found.count(shard.file) > 0; });
  });
}

}  // namespace

absl::Status CheckSetDirectory(const std::string& directory, const Manifest& manifest) {
  std::map<std::string, fs::directory_entry> found;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    found.emplace(it->path().filename(), *it);
  }
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list ", directory));
  }
  const bool linked = found.count(kLinksFile) > 0;
  if (linked) ENGRAM_RETURN_IF_ERROR(CheckNoShards(directory, manifest, found));
  const auto required = RequiredFiles(manifest, linked);
  for (const auto& [name, bytes] : required) {
    if (found.count(name) == 0) {
      return absl::NotFoundError(absl::StrCat("the table set lacks ", JoinPath(directory, name),
                                              ": ", kFix,
                                              HasNoShards(manifest, found) ? kLinkFix : ""));
    }
  }
  const std::vector<std::string> names = SideFileNames(manifest);
  const std::set<std::string> side_files(names.begin(), names.end());
  for (const auto& [name, entry] : found) {
    const auto it = required.find(name);
    ENGRAM_RETURN_IF_ERROR(it == required.end() ? CheckOther(entry, side_files)
                                                : CheckRequired(entry, it->second));
  }
  return absl::OkStatus();
}

}  // namespace engram
