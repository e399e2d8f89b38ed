#include "memstore/table/verify.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "memstore/addressing/token_map.h"
#include "memstore/os/direct_file.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/set_directory.h"
#include "memstore/table/shard_file.h"
#include "memstore/table/shard_format.h"

namespace engram {
namespace {

// Of a shard that a thread reads at a time, in whole blocks, at least one.
constexpr uint64_t kReadBytes = 4u << 20;

// A run of a shard's blocks, one thread's work.
struct BlockRun {
  const LayerTableSpec* layer;
  const ShardSpec* shard;
  size_t file;  // its number in ShardFiles
  uint64_t first_block;
  uint64_t blocks;
};

absl::Status CheckBlocks(const BlockRun& run, const ShardFile& file, PageBuffer& buffer) {
  const uint64_t begin = BlockOffset(*run.layer, *run.shard, run.first_block);
  const uint64_t last = run.first_block + run.blocks - 1;
  const uint64_t end =
      BlockOffset(*run.layer, *run.shard, last) + BlockBytes(*run.layer, *run.shard, last);
  auto bytes = file.reader().Read(begin, end - begin, buffer);
  if (!bytes.ok()) return bytes.status();
  uint64_t at = 0;
  for (uint64_t block = run.first_block; block <= last; ++block) {
    const uint64_t block_bytes = BlockBytes(*run.layer, *run.shard, block);
    absl::Status status = file.CheckBlock(block, bytes->subspan(at, block_bytes));
    if (!status.ok()) return status;
    at += block_bytes;
  }
  return absl::OkStatus();
}

absl::Status CheckRun(const BlockRun& run, ShardFiles& files, PageBuffer& buffer) {
  absl::StatusOr<const ShardFile*> file = files.BeginShare(run.file);
  if (!file.ok()) return file.status();
  absl::Status status = CheckBlocks(run, **file, buffer);
  files.EndShare(run.file);
  return status;
}

// Rows' bytes, without the padding.
uint64_t RowBytes(const BlockRun& run) {
  const uint64_t first_row = run.first_block * run.shard->block_rows;
  return std::min(run.blocks * run.shard->block_rows, run.shard->rows - first_row) *
         run.layer->row_bytes;
}

std::vector<BlockRun> PlanRuns(const Manifest& manifest, ShardFiles& files) {
  std::vector<BlockRun> runs;
  for (const LayerTableSpec& layer : manifest.layers) {
    for (const ShardSpec& shard : layer.shards) {
      const uint64_t block_bytes = uint64_t{shard.block_rows} * layer.row_bytes;
      const uint64_t step = std::max<uint64_t>(1, kReadBytes / block_bytes);
      const uint64_t blocks = ShardBlocks(shard);
      const size_t file = files.Add(layer, shard, (blocks + step - 1) / step);
      for (uint64_t block = 0; block < blocks; block += step) {
        runs.push_back({&layer, &shard, file, block, std::min(step, blocks - block)});
      }
    }
  }
  return runs;
}

}  // namespace

absl::StatusOr<Manifest> VerifyTableSet(const std::string& directory,
                                        const VerifyOptions& options) {
  absl::StatusOr<Manifest> manifest = LoadManifest(directory);
  if (!manifest.ok()) return manifest;
  absl::Status status = CheckSetDirectory(directory, *manifest);
  if (!status.ok()) return status;
  if (const auto& map = manifest->scheme.token_map) {
    status =
        TokenMap::Load(JoinPath(directory, map->file), manifest->scheme.vocab_size, *map).status();
    if (!status.ok()) return status;
  }
  ShardFiles files(directory);
  const std::vector<BlockRun> runs = PlanRuns(*manifest, files);
  ProgressCount progress(manifest->TableBytes(), options.on_progress);
  status = DoInOrder(runs.size(), ChooseTableThreads(options.threads), [&]() -> Worker {
    auto buffer = std::make_shared<PageBuffer>();
    return [&runs, &files, &progress, buffer](uint64_t unit) {
      absl::Status checked = CheckRun(runs[unit], files, *buffer);
      if (checked.ok()) progress.Add(RowBytes(runs[unit]));
      return checked;
    };
  });
  if (!status.ok()) return status;
  return manifest;
}

}  // namespace engram
