// One layer's rows on their way into shards: made, checksummed by blocks and by pages, written.
//
// Thread-safe: a unit is one thread's. Memory: a unit a thread (the caller's buffer) and the
// checksums of the shards that are open; what belongs to a finished shard is on disk. Errors name
// the file.
#pragma once

#include <atomic>
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
#include "memstore/pack/output/shard_plan.h"
#include "memstore/table/manifest.h"

namespace engram {

// Fills `rows`, whole rows from `first_row` of the layer on. One for each thread.
using RowFill = std::function<absl::Status(RowId first_row, absl::Span<std::byte> rows)>;

struct LayerWriterOptions {
  uint64_t shard_bytes = 0;  // as the shards were planned by
  bool page_checksums = true;
  bool rows_stay = false;  // no shard file is written
};

// A shard that is finished.
struct FinishedShard {
  size_t shard = 0;  // its index
  std::string checksum_file_sha256;
  std::vector<PendingSideFile> side_files;
};

class LayerWriter {
 public:
  // `layer` with its shards, which get the digests of their checksum files.
  LayerWriter(std::string directory, LayerTableSpec layer, const LayerWriterOptions& options);

  const LayerTableSpec& layer() const { return layer_; }
  const LayerUnits& units() const { return units_; }
  // A shard that is there already. Before the first unit is written, by one thread.
  void Keep(FinishedShard shard);
  // Those of the shards that are not kept, ascending.
  std::vector<uint64_t> UnitsToWrite() const;
  // Makes, checksums and writes a unit's rows; whoever writes a shard's last one finishes the
  // shard.
  absl::Status WriteUnit(uint64_t unit, const RowFill& fill, PageBuffer& buffer);

  // Whether the rows of a unit could not be made.
  bool input_failed() const { return input_failed_; }
  // How many shards are finished or were kept.
  size_t finished() const;
  // Once every unit is written: the layer, and what its shards want completed. Each once.
  LayerTableSpec TakeLayer() { return std::move(layer_); }
  std::vector<PendingSideFile> TakeSideFiles();

 private:
  struct OpenShard;

  absl::StatusOr<std::shared_ptr<OpenShard>> Open(size_t index);
  absl::Status FinishShard(size_t index, OpenShard& open);

  const std::string directory_;
  LayerTableSpec layer_;
  const LayerWriterOptions options_;
  const LayerUnits units_;
  std::vector<bool> kept_;  // [shards]
  std::atomic<bool> input_failed_{false};
  mutable Mutex mutex_;
  // [shards], null before and after.
  std::vector<std::shared_ptr<OpenShard>> open_ ABSL_GUARDED_BY(mutex_);
  size_t finished_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<PendingSideFile> side_files_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
