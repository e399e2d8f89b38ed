// Shards that a run left behind when it was killed: read again, and kept where they are whole.
//
// A shard is whole when its rows and its header are what its checksum file says: that one is
// written when the rows are on the device. Nothing is an error of a shard but a reason to write it
// anew, so that what is not whole is never an obstacle. Thread-safe: a unit is one thread's.
// Memory: a unit a thread and the checksums of the shards that are open. Cost: as fast as the
// device reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "memstore/base/mutex.h"
#include "memstore/os/direct_file.h"
#include "memstore/pack/output/layer_writer.h"
#include "memstore/pack/output/shard_plan.h"
#include "memstore/table/manifest.h"

namespace engram {

// Whether both files of the shard are there, regular ones of the right size: it may be whole.
bool MayBeWhole(const std::string& directory, const ShardSpec& shard);

class FoundShards {
 public:
  // `shards` are indices of those that may be whole; `layer` and `units` outlive this.
  FoundShards(std::string directory, const LayerTableSpec& layer, const LayerUnits& units,
              const std::vector<size_t>& shards, bool page_checksums);
  ~FoundShards();

  // Of all of them.
  uint64_t units() const { return numbers_.size(); }
  // Reads unit `i` of units(). Bytes of rows that are thereby known to be whole: those of the shard
  // whose last unit it was, or none. An error is not of the shard: no room for its side file, say.
  absl::StatusOr<uint64_t> CheckUnit(uint64_t i, PageBuffer& buffer);
  // Once every unit is checked. What a shard that is not among them left is to be removed.
  std::vector<FinishedShard> TakeWhole();

 private:
  struct OpenShard;

  std::shared_ptr<OpenShard> Open(size_t index);
  absl::Status Finish(size_t index, OpenShard& open);

  const std::string directory_;
  const LayerTableSpec& layer_;
  const LayerUnits& units_;
  const bool page_checksums_;
  std::vector<uint64_t> numbers_;  // of the units in the layer
  Mutex mutex_;
  // [shards], null before and after.
  std::vector<std::shared_ptr<OpenShard>> open_ ABSL_GUARDED_BY(mutex_);
  std::vector<FinishedShard> whole_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
