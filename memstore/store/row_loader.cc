#include "memstore/store/row_loader.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "memstore/base/status_macros.h"
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

// Blocks [first, end) of a shard; begins on a page of the file.
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

void CutIntoPieces(const Target& target, size_t layer_index, ShardFiles& files,
                   std::vector<Piece>& pieces) {
  const uint64_t blocks = ShardBlocks(target.shard);
  const uint64_t run_blocks = BlocksToPage(target);
  const uint64_t run_bytes = run_blocks * target.shard.block_rows * target.layer.row_bytes;
  const uint64_t step = run_blocks * std::max<uint64_t>(1, kPieceBytes / run_bytes);
  const size_t file =
      files.Add(target.layer, layer_index, target.shard, (blocks + step - 1) / step);
  for (uint64_t block = 0; block < blocks; block += step) {
    pieces.push_back({target, file, block, std::min(blocks, block + step)});
  }
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

// The memory that the piece is read to, faulted in.
absl::StatusOr<std::byte*> PlaceOf(const Piece& piece) {
  const uint64_t begin = piece.target.ArenaOffset() + (Begin(piece) - kShardHeaderBytes);
  absl::Status status = piece.target.arena.Populate(begin, End(piece) - Begin(piece));
  if (!status.ok()) return status;
  return piece.target.arena.data() + begin;
}

absl::Status LoadBlocks(const Piece& piece, const ShardFile& file) {
  const Target& target = piece.target;
  const uint64_t begin = Begin(piece);
  const uint64_t end = End(piece);
  ENGRAM_ASSIGN_OR_RETURN(std::byte* const memory, PlaceOf(piece));
  uint64_t read = begin;
  for (uint64_t block = piece.first_block; block < piece.end_block; ++block) {
    const uint64_t offset = BlockOffset(target.layer, target.shard, block);
    const uint64_t bytes = BlockBytes(target.layer, target.shard, block);
    if (offset + bytes > read) {
      const uint64_t next =
          std::min(end, std::max(read + kReadBytes, RoundUpToPage(offset + bytes)));
      absl::Status status =
          file.reader().ReadPages(read, absl::MakeSpan(memory + (read - begin), next - read));
      if (!status.ok()) return status;
      read = next;
    }
    absl::Status status = file.CheckBlock(block, {memory + (offset - begin), bytes});
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// All of it at once: its rows lie in one place for each part, some of them small, and the device
// takes longer over twice as many reads.
absl::Status LoadLinkedBlocks(const Piece& piece, const ShardFile& file,
                              LinkedBlockReader& reader) {
  const Target& target = piece.target;
  ENGRAM_ASSIGN_OR_RETURN(std::byte * memory, PlaceOf(piece));
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
                      const LinkedRows* links, absl::Span<Arena> arenas, uint32_t threads,
                      const ProgressFunction& progress, const std::function<bool()>& cancelled) {
  ShardFiles files(directory, links);
  std::vector<Piece> pieces;
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    for (const ShardSpec& shard : manifest.layers[i].shards) {
      CutIntoPieces({manifest.layers[i], shard, arenas[i]}, i, files, pieces);
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
