// One layer's rows on their way into shards: made, checksummed by blocks and by pages, written.
//
// Thread-safe: a unit is one thread's. Memory: a unit a thread (the caller's buffer) and the
// checksums of the shards that are open; what belongs to a finished shard is on disk. Errors name
// the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"
#include "memstore/base/mutex.h"
#include "memstore/os/direct_file.h"
#include "memstore/table/manifest.h"

namespace engram {

// Of rows that a thread makes and writes at a time: few calls, yet a small part of the memory.
inline constexpr uint64_t kTargetUnitBytes = 4u << 20;

// Fills `rows`, whole rows from `first_row` of the layer on. One for each thread.
using RowFill = std::function<absl::Status(RowId first_row, absl::Span<std::byte> rows)>;

// A side file whose body lies in the directory, behind room for its head: that wants the set's id.
struct PendingSideFile {
  std::string file;
  std::string kind;
  std::string body_sha256;
  uint64_t body_bytes = 0;
};

// Cuts the layer's rows into shards of about `shard_bytes` and names their files.
void PlanShards(uint64_t shard_bytes, LayerTableSpec& layer);

struct LayerWriterOptions {
  uint64_t shard_bytes = 0;  // as the shards were planned by
  bool page_checksums = true;
  bool rows_stay = false;  // no shard file is written
};

class LayerWriter {
 public:
  // `layer` with its shards, which get the digests of their checksum files.
  LayerWriter(std::string directory, LayerTableSpec layer, const LayerWriterOptions& options);

  uint64_t units() const { return (layer_.rows + unit_rows_ - 1) / unit_rows_; }
  uint64_t unit_bytes(uint64_t unit) const { return UnitRows(unit) * layer_.row_bytes; }
  // Makes, checksums and writes a unit's rows; whoever writes a shard's last one finishes the
  // shard.
  absl::Status WriteUnit(uint64_t unit, const RowFill& fill, PageBuffer& buffer);
  // Once every unit is written: the layer, and what its shards want completed. Each once.
  LayerTableSpec TakeLayer() { return std::move(layer_); }
  std::vector<PendingSideFile> TakeSideFiles();

 private:
  struct OpenShard;

  uint64_t UnitRows(uint64_t unit) const;
  absl::StatusOr<std::shared_ptr<OpenShard>> Open(size_t index);
  absl::Status FinishShard(size_t index, OpenShard& open);
  absl::StatusOr<PendingSideFile> WritePageChecksums(const ShardSpec& shard,
                                                     const OpenShard& open) const;

  const std::string directory_;
  LayerTableSpec layer_;
  const LayerWriterOptions options_;
  const uint64_t unit_rows_;
  const uint64_t units_per_shard_;
  Mutex mutex_;
  // [shards], null before and after.
  std::vector<std::shared_ptr<OpenShard>> open_ ABSL_GUARDED_BY(mutex_);
  std::vector<PendingSideFile> side_files_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
