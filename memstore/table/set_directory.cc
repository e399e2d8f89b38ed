#include "memstore/table/set_directory.h"

#include <filesystem>
#include <map>
#include <optional>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/shard_format.h"

namespace engram {
namespace {

namespace fs = std::filesystem;

constexpr char kFix[] = "copy or pack the table set again";

// The files that belong to the set; a size where the manifest fixes it.
std::map<std::string, std::optional<uint64_t>> ExpectedFiles(const Manifest& manifest) {
  std::map<std::string, std::optional<uint64_t>> files;
  files[kManifestFile] = std::nullopt;
  files[kManifestDigestFile] = std::nullopt;
  if (manifest.scheme.token_map) files[manifest.scheme.token_map->file] = std::nullopt;
  for (const LayerTableSpec& layer : manifest.layers) {
    for (const ShardSpec& shard : layer.shards) {
      files[shard.file] = shard.file_bytes;
      files[shard.checksum_file] = (1 + ShardBlocks(shard)) * sizeof(uint32_t);
    }
  }
  return files;
}

absl::Status CheckEntry(const fs::directory_entry& entry, bool expected,
                        std::optional<uint64_t> bytes) {
  const std::string path = entry.path();
  if (!expected) {
    return absl::DataLossError(absl::StrCat(
        QuoteForMessage(path), " does not belong to the table set: remove it, or ", kFix));
  }
  std::error_code error;
  if (entry.symlink_status(error).type() != fs::file_type::regular) {
    return absl::DataLossError(absl::StrCat(path, " is not a regular file: ", kFix));
  }
  const uint64_t found = entry.file_size(error);
  if (bytes && found != *bytes) {
    return absl::DataLossError(absl::StrCat(path, " has ", found, " bytes, the manifest says ",
                                            *bytes, ": it was ",
                                            found < *bytes ? "cut off" : "added to", "; ", kFix));
  }
  return absl::OkStatus();
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
  const auto expected = ExpectedFiles(manifest);
  for (const auto& [name, bytes] : expected) {
    if (found.count(name) == 0) {
      return absl::NotFoundError(
          absl::StrCat("the table set lacks ", JoinPath(directory, name), ": ", kFix));
    }
  }
  for (const auto& [name, entry] : found) {
    const auto it = expected.find(name);
    absl::Status status =
        CheckEntry(entry, it != expected.end(), it != expected.end() ? it->second : std::nullopt);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace engram
