#include "memstore/store/row_loader.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "memstore/base/status_macros.h"
#include "memstore/store/held_blocks.h"
#include "memstore/table/shard_file.h"
#include "memstore/table/shard_format.h"

namespace engram {
namespace {

// One read: long enough that the device works at its full speed, short enough to be checked while
// it is in the cache.
constexpr uint64_t kReadBytes = 2u << 20;
// What a thread takes at a time; two huge pages, so that threads seldom fault in the same one.
constexpr uint64_t kPieceBytes = 4u << 20;
// Each waits for its own read most of the time, so this is the depth of the device's queue rather
// than a share of the cores.
constexpr uint32_t kDefaultLoadThreads = 16;
constexpr uint32_t kMaxLoadThreads = 64;

uint64_t RoundDownToPage(uint64_t bytes) { return bytes / kShardPageBytes * kShardPageBytes; }
uint64_t RoundUpToPage(uint64_t bytes) {
  return (bytes + kShardPageBytes - 1) / kShardPageBytes * kShardPageBytes;
}

// A shard on its way into its layer's arena.
struct Target {
  const LayerTableSpec& layer;
  const ShardSpec& shard;
  Arena& arena;

  uint64_t ArenaOffset() const { return shard.first_row * layer.row_bytes; }
};

// Blocks [first, end) of a shard. Its first and its last page of the file are no other piece's.
struct Piece {
  Target target;
  size_t file;  // the shard's number in ShardFiles
  uint64_t first_block;
  uint64_t end_block;
};

// The fewest blocks after which the next one begins on a page again: one for the packer's own block
// sizes and row widths, many for odd ones.
uint64_t BlocksToPage(const Target& target) {
  const uint64_t block_bytes = uint64_t{target.shard.block_rows} * target.layer.row_bytes;
  return kShardPageBytes / std::gcd(block_bytes, kShardPageBytes);
}

// Cut where a block begins on a page, at the same places whatever is held.
void CutIntoPieces(const Target& target, size_t layer_index, const HeldLayer& held,
                   ShardFiles& files, std::vector<Piece>& pieces) {
  const uint64_t run_blocks = BlocksToPage(target);
  const uint64_t run_bytes = run_blocks * target.shard.block_rows * target.layer.row_bytes;
  const uint64_t step = run_blocks * std::max<uint64_t>(1, kPieceBytes / run_bytes);
  std::vector<BlockRun> cut;
  for (const BlockRun& run : HeldBlocks(target.layer, target.shard, held)) {
    for (uint64_t block = run.first; block < run.end;) {
      const uint64_t end = std::min(run.end, (block / step + 1) * step);
      cut.push_back({block, end});
      block = end;
    }
  }
  if (cut.empty()) return;
  const size_t file = files.Add(target.layer, layer_index, target.shard, cut.size());
  for (const BlockRun& run : cut) pieces.push_back({target, file, run.first, run.end});
}

// Bytes [Begin, End) of the shard's file.
uint64_t Begin(const Piece& piece) {
  return BlockOffset(piece.target.layer, piece.target.shard, piece.first_block);
}
uint64_t End(const Piece& piece) {
  const uint64_t last = piece.end_block - 1;
  return BlockOffset(piece.target.layer, piece.target.shard, last) +
         BlockBytes(piece.target.layer, piece.target.shard, last);
}

// Where byte `at` of the file lies in memory.
std::byte* PlaceOf(const Piece& piece, uint64_t at) {
  return piece.target.arena.data() + piece.target.ArenaOffset() + (at - kShardHeaderBytes);
}

// The memory of the piece, in whole pages, faulted in.
absl::Status Populate(const Piece& piece) {
  const uint64_t begin = RoundDownToPage(Begin(piece));
  return piece.target.arena.Populate(piece.target.ArenaOffset() + (begin - kShardHeaderBytes),
                                     RoundUpToPage(End(piece)) - begin);
}

absl::Status LoadBlocks(const Piece& piece, const ShardFile& file) {
  const Target& target = piece.target;
  const uint64_t end = RoundUpToPage(End(piece));
  ENGRAM_RETURN_IF_ERROR(Populate(piece));
  uint64_t read = RoundDownToPage(Begin(piece));
  for (uint64_t block = piece.first_block; block < piece.end_block; ++block) {
    const uint64_t offset = BlockOffset(target.layer, target.shard, block);
    const uint64_t bytes = BlockBytes(target.layer, target.shard, block);
    if (offset + bytes > read) {
      const uint64_t next =
          std::min(end, std::max(read + kReadBytes, RoundUpToPage(offset + bytes)));
      absl::Status status =
          file.reader().ReadPages(read, absl::MakeSpan(PlaceOf(piece, read), next - read));
      if (!status.ok()) return status;
      read = next;
    }
    absl::Status status = file.CheckBlock(block, {PlaceOf(piece, offset), bytes});
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// All of it at once: its rows lie in one place for each part, some of them small, and the device
// takes longer over twice as many reads.
absl::Status LoadLinkedBlocks(const Piece& piece, const ShardFile& file,
                              LinkedBlockReader& reader) {
  const Target& target = piece.target;
  ENGRAM_RETURN_IF_ERROR(Populate(piece));
  std::byte* memory = PlaceOf(piece, Begin(piece));
  ENGRAM_RETURN_IF_ERROR(reader.Read(file, piece.first_block, piece.end_block,
                                     absl::MakeSpan(memory, End(piece) - Begin(piece))));
  for (uint64_t block = piece.first_block; block < piece.end_block; ++block) {
    const uint64_t bytes = BlockBytes(target.layer, target.shard, block);
    ENGRAM_RETURN_IF_ERROR(file.CheckBlock(block, {memory, bytes}));
    memory += bytes;
  }
  return absl::OkStatus();
}

absl::Status LoadPiece(const Piece& piece, ShardFiles& files, LinkedBlockReader& linked) {
  absl::StatusOr<const ShardFile*> file = files.BeginShare(piece.file);
  if (!file.ok()) return file.status();
  absl::Status status = (*file)->linked_rows() == nullptr ? LoadBlocks(piece, **file)
                                                          : LoadLinkedBlocks(piece, **file, linked);
  files.EndShare(piece.file);
  return status;
}

uint64_t PieceBytes(const Piece& piece) { return End(piece) - Begin(piece); }

}  // namespace

uint32_t ChooseLoadThreads(uint32_t asked) {
  return asked == 0 ? kDefaultLoadThreads : std::min(asked, kMaxLoadThreads);
}

absl::Status LoadRows(const std::string& directory, const Manifest& manifest,
                      absl::Span<const HeldLayer> held, const LinkedRows* links,
                      absl::Span<Arena> arenas, uint32_t threads, const ProgressFunction& progress,
                      const std::function<bool()>& cancelled) {
  ShardFiles files(directory, links);
  std::vector<Piece> pieces;
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    for (const ShardSpec& shard : manifest.layers[i].shards) {
      CutIntoPieces({manifest.layers[i], shard, arenas[i]}, i, held[i], files, pieces);
    }
  }
  uint64_t total = 0;
  for (const Piece& piece : pieces) total += PieceBytes(piece);
  ProgressCount count(total, progress);
  return DoInOrder(pieces.size(), threads, [&]() -> Worker {
    return [&, linked = std::make_shared<LinkedBlockReader>()](uint64_t unit) {
      if (cancelled && cancelled()) return absl::CancelledError("loading was cancelled");
      absl::Status status = LoadPiece(pieces[unit], files, *linked);
      if (status.ok()) count.Add(PieceBytes(pieces[unit]));
      return status;
    };
  });
}

}  // namespace engram
