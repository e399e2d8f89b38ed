#include "memstore/store/row_loader.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "memstore/store/shard_reader.h"
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
struct OpenShard {
  const LayerTableSpec& layer;
  const ShardSpec& shard;
  ShardReader reader;
  std::vector<uint32_t> checksums;  // [0] the header's, [1..] the blocks'
  Arena& arena;

  uint64_t ArenaOffset() const { return shard.first_row * layer.row_bytes; }
};

// Blocks [first, end) of a shard; begins on a page of the file.
struct Piece {
  const OpenShard* shard;
  uint64_t first_block;
  uint64_t end_block;
};

absl::StatusOr<std::vector<OpenShard>> OpenShards(const std::string& directory,
                                                  const Manifest& manifest,
                                                  absl::Span<Arena> arenas) {
  std::vector<OpenShard> shards;
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const LayerTableSpec& layer = manifest.layers[i];
    for (const ShardSpec& shard : layer.shards) {
      absl::StatusOr<std::vector<uint32_t>> checksums = LoadChecksums(directory, layer, shard);
      if (!checksums.ok()) return checksums.status();
      absl::StatusOr<ShardReader> reader =
          ShardReader::Open(directory, layer, shard, checksums->front());
      if (!reader.ok()) return reader.status();
      shards.push_back({layer, shard, *std::move(reader), *std::move(checksums), arenas[i]});
    }
  }
  return shards;
}

// The fewest blocks after which the next one begins on a page again: one for the packer's own block
// sizes and row widths, many for odd ones.
uint64_t BlocksToPage(const OpenShard& open) {
  const uint64_t block_bytes = uint64_t{open.shard.block_rows} * open.layer.row_bytes;
  return kShardPageBytes / std::gcd(block_bytes, kShardPageBytes);
}

std::vector<Piece> CutIntoPieces(const std::vector<OpenShard>& shards) {
  std::vector<Piece> pieces;
  for (const OpenShard& open : shards) {
    const uint64_t blocks = ShardBlocks(open.shard);
    const uint64_t run_blocks = BlocksToPage(open);
    const uint64_t run_bytes = run_blocks * open.shard.block_rows * open.layer.row_bytes;
    const uint64_t step = run_blocks * std::max<uint64_t>(1, kPieceBytes / run_bytes);
    for (uint64_t block = 0; block < blocks; block += step) {
      pieces.push_back({&open, block, std::min(blocks, block + step)});
    }
  }
  return pieces;
}

absl::Status WrongBlock(const OpenShard& open, uint64_t block) {
  const uint64_t first_row = open.shard.first_row + block * open.shard.block_rows;
  const uint64_t end_row =
      std::min(first_row + open.shard.block_rows, open.shard.first_row + open.shard.rows);
  const uint64_t offset = BlockOffset(open.layer, open.shard, block);
  return absl::DataLossError(absl::StrCat(
      open.reader.path(), ": block ", block, " (bytes ", offset, " to ",
      offset + BlockBytes(open.layer, open.shard, block) - 1, ", rows ", first_row, " to ",
      end_row - 1, " of layer ", open.layer.layer,
      ") does not have its checksum: it was changed or damaged; copy or pack the table set again"));
}

absl::Status LoadPiece(const Piece& piece) {
  const OpenShard& open = *piece.shard;
  const uint64_t begin = BlockOffset(open.layer, open.shard, piece.first_block);
  const uint64_t end = BlockOffset(open.layer, open.shard, piece.end_block - 1) +
                       BlockBytes(open.layer, open.shard, piece.end_block - 1);
  const uint64_t arena_begin = open.ArenaOffset() + (begin - kShardHeaderBytes);
  std::byte* const memory = open.arena.data() + arena_begin;
  if (absl::Status status = open.arena.Populate(arena_begin, end - begin); !status.ok())
    return status;

  uint64_t read = begin;
  for (uint64_t block = piece.first_block; block < piece.end_block; ++block) {
    const uint64_t offset = BlockOffset(open.layer, open.shard, block);
    const uint64_t bytes = BlockBytes(open.layer, open.shard, block);
    if (offset + bytes > read) {
      const uint64_t next =
          std::min(end, std::max(read + kReadBytes, RoundUpToPage(offset + bytes)));
      absl::Status status =
          open.reader.Read(read, absl::MakeSpan(memory + (read - begin), next - read));
      if (!status.ok()) return status;
      read = next;
    }
    if (Crc32c({memory + (offset - begin), bytes}) != open.checksums[1 + block]) {
      return WrongBlock(open, block);
    }
  }
  return absl::OkStatus();
}

uint64_t PieceBytes(const Piece& piece) {
  const OpenShard& open = *piece.shard;
  const uint64_t last = piece.end_block - 1;
  return BlockOffset(open.layer, open.shard, last) + BlockBytes(open.layer, open.shard, last) -
         BlockOffset(open.layer, open.shard, piece.first_block);
}

}  // namespace

uint32_t ChooseLoadThreads(uint32_t asked) {
  return asked == 0 ? kDefaultLoadThreads : std::min(asked, kMaxLoadThreads);
}

absl::Status LoadRows(const std::string& directory, const Manifest& manifest,
                      absl::Span<Arena> arenas, uint32_t threads,
                      const ProgressFunction& progress) {
  const absl::StatusOr<std::vector<OpenShard>> shards = OpenShards(directory, manifest, arenas);
  if (!shards.ok()) return shards.status();
  const std::vector<Piece> pieces = CutIntoPieces(*shards);
  uint64_t total = 0;
  for (const Piece& piece : pieces) total += PieceBytes(piece);
  ProgressCount count(total, progress);
  return DoInOrder(pieces.size(), threads, [&]() -> Worker {
    return [&](uint64_t unit) {
      absl::Status status = LoadPiece(pieces[unit]);
      if (status.ok()) count.Add(PieceBytes(pieces[unit]));
      return status;
    };
  });
}

}  // namespace engram
