#include "memstore/table/verify.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "memstore/addressing/token_map.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/direct_file.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/linked_rows.h"
#include "memstore/table/set_directory.h"
#include "memstore/table/shard_file.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/shard_layout.h"
#include "memstore/table/side_files.h"

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

// One thread's: what it reads by, and the page checksums of the shard that it is at.
class RunChecker {
 public:
  RunChecker(const std::string& directory, const Manifest& manifest, ShardFiles& files)
      : directory_(directory), manifest_(manifest), files_(files) {}

  absl::Status Check(const BlockRun& run) {
    if (shard_ != run.shard) {
      ENGRAM_ASSIGN_OR_RETURN(pages_, LoadPageChecksums(directory_, "", manifest_, *run.shard));
      shard_ = run.shard;
    }
    ENGRAM_ASSIGN_OR_RETURN(const ShardFile* file, files_.BeginShare(run.file));
    absl::Status status = CheckBlocks(run, *file);
    files_.EndShare(run.file);
    return status;
  }

 private:
  // Bytes [begin, end) of the shard's file, where that is linked as they would be. They reach from
  // the page that the run begins in to the run's end.
  absl::StatusOr<absl::Span<const std::byte>> Read(const BlockRun& run, const ShardFile& file,
                                                   uint64_t begin, uint64_t end);
  absl::Status CheckBlocks(const BlockRun& run, const ShardFile& file);
  absl::Status CheckPages(const BlockRun& run, uint64_t first_page,
                          absl::Span<const std::byte> bytes) const;

  const std::string& directory_;
  const Manifest& manifest_;
  ShardFiles& files_;
  PageBuffer buffer_;
  LinkedBlockReader linked_;
  const ShardSpec* shard_ = nullptr;
  std::optional<PageChecksums> pages_;
};

absl::StatusOr<absl::Span<const std::byte>> RunChecker::Read(const BlockRun& run,
                                                             const ShardFile& file, uint64_t begin,
                                                             uint64_t end) {
  if (file.linked_rows() == nullptr) return file.reader().Read(begin, end - begin, buffer_);
  // By whole blocks: the one that holds the page's begin, too.
  uint64_t first_block = run.first_block;
  while (BlockOffset(*run.layer, *run.shard, first_block) > begin) --first_block;
  const uint64_t from = BlockOffset(*run.layer, *run.shard, first_block);
  const absl::Span<std::byte> bytes = buffer_.Reserve(end - from).first(end - from);
  ENGRAM_RETURN_IF_ERROR(linked_.Read(file, first_block, run.first_block + run.blocks, bytes));
  return bytes.subspan(begin - from);
}

// Blocks begin and end anywhere in a page. A page is the run's in which it ends: what of it belongs
// to earlier blocks was found to be right by then, or that error comes first.
absl::Status RunChecker::CheckBlocks(const BlockRun& run, const ShardFile& file) {
  const uint64_t begin = BlockOffset(*run.layer, *run.shard, run.first_block);
  const uint64_t last = run.first_block + run.blocks - 1;
  const uint64_t end =
      BlockOffset(*run.layer, *run.shard, last) + BlockBytes(*run.layer, *run.shard, last);
  const uint64_t first_page = begin / kShardPageBytes;
  const uint64_t read_from = first_page * kShardPageBytes;
  ENGRAM_ASSIGN_OR_RETURN(const absl::Span<const std::byte> bytes, Read(run, file, read_from, end));
  uint64_t at = begin - read_from;
  for (uint64_t block = run.first_block; block <= last; ++block) {
    const uint64_t block_bytes = BlockBytes(*run.layer, *run.shard, block);
    ENGRAM_RETURN_IF_ERROR(file.CheckBlock(block, bytes.subspan(at, block_bytes)));
    at += block_bytes;
  }
  return CheckPages(run, first_page, bytes);
}

// The header's page goes with the first block; it was compared when the file was opened.
absl::Status RunChecker::CheckPages(const BlockRun& run, uint64_t first_page,
                                    absl::Span<const std::byte> bytes) const {
  if (!pages_) return absl::OkStatus();
  if (run.first_block == 0 && Crc32c(MakeShardHeader(*run.layer, *run.shard)) != pages_->pages[0]) {
    return PageDiffers(*pages_, *run.shard, 0);
  }
  for (uint64_t i = 0; i < bytes.size() / kShardPageBytes; ++i) {
    const uint32_t found = Crc32c(bytes.subspan(i * kShardPageBytes, kShardPageBytes));
    if (found == pages_->pages[first_page + i]) continue;
    return PageDiffers(*pages_, *run.shard, first_page + i);
  }
  return absl::OkStatus();
}

// Rows' bytes, without the padding.
uint64_t RowBytes(const BlockRun& run) {
  const uint64_t first_row = run.first_block * run.shard->block_rows;
  return std::min(run.blocks * run.shard->block_rows, run.shard->rows - first_row) *
         run.layer->row_bytes;
}

std::vector<BlockRun> PlanRuns(const Manifest& manifest, ShardFiles& files) {
  std::vector<BlockRun> runs;
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const LayerTableSpec& layer = manifest.layers[i];
    for (const ShardSpec& shard : layer.shards) {
      const uint64_t block_bytes = uint64_t{shard.block_rows} * layer.row_bytes;
      const uint64_t step = std::max<uint64_t>(1, kReadBytes / block_bytes);
      const uint64_t blocks = ShardBlocks(shard);
      const size_t file = files.Add(layer, i, shard, (blocks + step - 1) / step);
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
  ENGRAM_ASSIGN_OR_RETURN(SideFiles side_files, LoadSideFiles(directory, "", *manifest));
  ENGRAM_ASSIGN_OR_RETURN(const auto links, TakeLinkedRows(directory, *manifest, side_files));
  if (links) ENGRAM_RETURN_IF_ERROR(CheckLinkedFiles(*links));
  ShardFiles files(directory, links ? &*links : nullptr);
  const std::vector<BlockRun> runs = PlanRuns(*manifest, files);
  ProgressCount progress(manifest->TableBytes(), options.on_progress);
  status = DoInOrder(runs.size(), ChooseTableThreads(options.threads), [&]() -> Worker {
    auto checker = std::make_shared<RunChecker>(directory, *manifest, files);
    return [&runs, &progress, checker](uint64_t unit) {
      absl::Status checked = checker->Check(runs[unit]);
      if (checked.ok()) progress.Add(RowBytes(runs[unit]));
      return checked;
    };
  });
  if (!status.ok()) return status;
  return manifest;
}

}  // namespace engram
