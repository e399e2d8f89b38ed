#include "memstore/table/verify.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "memstore/addressing/token_map.h"
#include "memstore/table/direct_file.h"
#include "memstore/table/posix_file.h"
#include "memstore/table/shard_format.h"

namespace engram {
namespace {

namespace fs = std::filesystem;

constexpr char kFix[] = "copy or pack the table set again";
// Of a shard that a thread reads at a time, in whole blocks, at least one.
constexpr uint64_t kReadBytes = 4u << 20;

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
    return absl::DataLossError(
        absl::StrCat(path, " does not belong to the table set: remove it, or ", kFix));
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

// Nothing missing, nothing else there, every file a plain one of the right size; by name.
absl::Status CheckDirectory(const std::string& directory, const Manifest& manifest) {
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

// A shard as the threads read it.
struct ShardCheck {
  const LayerTableSpec* layer;
  const ShardSpec* shard;
  DirectReader reader;
  std::vector<uint32_t> checksums;
};

// A run of a shard's blocks, one thread's work.
struct BlockRun {
  const ShardCheck* check;
  uint64_t first_block;
  uint64_t blocks;
};

absl::Status CheckHeader(const ShardCheck& check, PageBuffer& buffer) {
  auto header = check.reader.Read(0, kShardHeaderBytes, buffer);
  if (!header.ok()) return header.status();
  const std::vector<std::byte> expected = MakeShardHeader(*check.layer, *check.shard);
  const auto differs = std::mismatch(header->begin(), header->end(), expected.begin()).first;
  if (differs != header->end()) {
    return absl::DataLossError(absl::StrCat(check.reader.path(), ": the header differs at byte ",
                                            differs - header->begin(), " of bytes 0..",
                                            kShardHeaderBytes - 1, ": ", kFix));
  }
  if (Crc32c(*header) != check.checksums[0]) {
    return absl::DataLossError(absl::StrCat(check.reader.path(),
                                            ": the header's checksum is not that of ",
                                            check.shard->checksum_file, ": ", kFix));
  }
  return absl::OkStatus();
}

absl::Status CheckBlocks(const BlockRun& run, PageBuffer& buffer) {
  const ShardCheck& check = *run.check;
  const uint64_t begin = BlockOffset(*check.layer, *check.shard, run.first_block);
  const uint64_t last = run.first_block + run.blocks - 1;
  const uint64_t end =
      BlockOffset(*check.layer, *check.shard, last) + BlockBytes(*check.layer, *check.shard, last);
  auto bytes = check.reader.Read(begin, end - begin, buffer);
  if (!bytes.ok()) return bytes.status();
  uint64_t at = 0;
  for (uint64_t block = run.first_block; block <= last; ++block) {
    const uint64_t block_bytes = BlockBytes(*check.layer, *check.shard, block);
    if (Crc32c(bytes->subspan(at, block_bytes)) != check.checksums[1 + block]) {
      return absl::DataLossError(absl::StrCat(
          check.reader.path(), ": block ", block, " (bytes ", begin + at, "..",
          begin + at + block_bytes - 1, ") does not have its checksum: it is damaged; ", kFix));
    }
    at += block_bytes;
  }
  return absl::OkStatus();
}

// Headers and checksum files are small, so they are read first and by one thread.
absl::StatusOr<std::vector<ShardCheck>> OpenShards(const std::string& directory,
                                                   const Manifest& manifest) {
  std::vector<ShardCheck> checks;
  PageBuffer buffer;
  for (const LayerTableSpec& layer : manifest.layers) {
    for (const ShardSpec& shard : layer.shards) {
      auto checksums = LoadChecksums(directory, layer, shard);
      if (!checksums.ok()) return checksums.status();
      auto reader = DirectReader::Open(JoinPath(directory, shard.file));
      if (!reader.ok()) return reader.status();
      checks.push_back({&layer, &shard, std::move(*reader), std::move(*checksums)});
      absl::Status status = CheckHeader(checks.back(), buffer);
      if (!status.ok()) return status;
    }
  }
  return checks;
}

std::vector<BlockRun> PlanRuns(const std::vector<ShardCheck>& checks) {
  std::vector<BlockRun> runs;
  for (const ShardCheck& check : checks) {
    const uint64_t block_bytes = uint64_t{check.shard->block_rows} * check.layer->row_bytes;
    const uint64_t step = std::max<uint64_t>(1, kReadBytes / block_bytes);
    const uint64_t blocks = ShardBlocks(*check.shard);
    for (uint64_t block = 0; block < blocks; block += step) {
      runs.push_back({&check, block, std::min(step, blocks - block)});
    }
  }
  return runs;
}

}  // namespace

absl::StatusOr<Manifest> VerifyTableSet(const std::string& directory,
                                        const VerifyOptions& options) {
  absl::StatusOr<Manifest> manifest = LoadManifest(directory);
  if (!manifest.ok()) return manifest;
  absl::Status status = CheckDirectory(directory, *manifest);
  if (!status.ok()) return status;
  if (const auto& map = manifest->scheme.token_map) {
    status =
        TokenMap::Load(JoinPath(directory, map->file), manifest->scheme.vocab_size, *map).status();
    if (!status.ok()) return status;
  }
  auto checks = OpenShards(directory, *manifest);
  if (!checks.ok()) return checks.status();
  const std::vector<BlockRun> runs = PlanRuns(*checks);
  ProgressCount progress(manifest->TableBytes(), options.on_progress);
  status = DoInOrder(runs.size(), ChooseTableThreads(options.threads), [&]() -> Worker {
    auto buffer = std::make_shared<PageBuffer>();
    return [&runs, &progress, buffer](uint64_t unit) {
      const BlockRun& run = runs[unit];
      absl::Status checked = CheckBlocks(run, *buffer);
      if (!checked.ok()) return checked;
      const uint64_t first_row = run.first_block * run.check->shard->block_rows;
      const uint64_t rows =
          std::min(run.blocks * run.check->shard->block_rows, run.check->shard->rows - first_row);
      progress.Add(rows * run.check->layer->row_bytes);
      return checked;
    };
  });
  if (!status.ok()) return status;
  return manifest;
}

}  // namespace engram
