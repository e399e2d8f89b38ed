// How a layer's rows are cut: into shards, and these into units, what a thread makes, reads or
// writes at a time. And a shard's checksums, by blocks and by pages, as its units come.
//
// Units and shards begin on a page and on a block. Plain values; threads take the checksums of
// different units of a shard at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"
#include "memstore/table/manifest.h"

namespace engram {

// Of rows that a thread makes and writes at a time: few calls, yet a small part of the memory.
inline constexpr uint64_t kTargetUnitBytes = 4u << 20;

// Cuts the layer's rows into shards of about `shard_bytes` and names their files.
void PlanShards(uint64_t shard_bytes, LayerTableSpec& layer);

struct ShardUnit {
  size_t shard = 0;  // its index in the layer
  RowId first_row = 0;
  uint64_t rows = 0;
  uint64_t first_block = 0;  // of the shard's
  uint64_t offset = 0;       // in the shard's file
  uint64_t row_bytes = 0;    // of all its rows
  uint64_t bytes = 0;        // with the padding behind the shard's last row
};

class LayerUnits {
 public:
  // `layer` was planned with the same `shard_bytes`, and outlives this.
  LayerUnits(uint64_t shard_bytes, const LayerTableSpec& layer);

  uint64_t of_shard(size_t shard) const;  // how many
  uint64_t first_of_shard(size_t shard) const { return shard * units_per_shard_; }
  ShardUnit At(uint64_t unit) const;

 private:
  const LayerTableSpec* layer_;
  uint64_t unit_rows_;
  uint64_t units_per_shard_;
};

struct ShardChecksums {
  explicit ShardChecksums(const ShardSpec& shard);

  void TakeHeader(absl::Span<const std::byte> header);
  // `pages` are all of the unit's bytes.
  void Take(const LayerTableSpec& layer, const ShardUnit& unit, absl::Span<const std::byte> pages);

  std::vector<uint32_t> blocks;  // [0] the header's: the words of the checksum file
  std::vector<uint32_t> pages;   // [0] the header's
};

// The bytes of a file of such words.
absl::string_view AsText(const std::vector<uint32_t>& words);

// A side file whose body lies in the directory, behind room for its head: that wants the set's id.
struct PendingSideFile {
  std::string file;
  std::string kind;
  std::string body_sha256;
  uint64_t body_bytes = 0;
};

// Writes a shard's page checksums to `directory`, behind a head that is of no set.
absl::StatusOr<PendingSideFile> WritePageChecksums(const std::string& directory,
                                                   const ShardSpec& shard,
                                                   const ShardChecksums& checksums);
// Puts the head in its place: now the file is of the set.
absl::Status CompleteSideFile(const std::string& directory, const PendingSideFile& side_file,
                              absl::string_view set_id);

}  // namespace engram
