// The shards of a table set, opened for reading and checking their rows.
//
// A ShardFile is shared freely between threads. ShardFiles keeps open what is being read and no
// more: a set can have more shards than a process may have descriptors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/base/mutex.h"
#include "memstore/os/direct_file.h"
#include "memstore/table/manifest.h"

namespace engram {

class ShardFile {
 public:
  // Loads the shard's checksums, opens its file and verifies its size and its header page.
  // NOT_FOUND when a file of it is missing; DATA_LOSS when one is not what the manifest says.
  // `layer` and `shard` outlive it.
  static absl::StatusOr<ShardFile> Open(const std::string& directory, const LayerTableSpec& layer,
                                        const ShardSpec& shard);

  const DirectReader& reader() const { return reader_; }
  // Whether `bytes` are block `block`, padding included. DATA_LOSS names file, block, bytes, rows.
  absl::Status CheckBlock(uint64_t block, absl::Span<const std::byte> bytes) const;

 private:
  ShardFile(const LayerTableSpec& layer, const ShardSpec& shard, DirectReader reader,
            std::vector<uint32_t> checksums)
      : layer_(&layer),
        shard_(&shard),
        reader_(std::move(reader)),
        checksums_(std::move(checksums)) {}
  absl::Status CheckHeader() const;

  const LayerTableSpec* layer_;
  const ShardSpec* shard_;
  DirectReader reader_;
  std::vector<uint32_t> checksums_;  // [0] the header's, [1..] the blocks'
};

// Work on each shard comes in shares; it is opened for the first one and closed after the last one.
// So with shares taken in order, at most one shard a thread and one more are open. Add() is one
// thread's, before the others begin.
class ShardFiles {
 public:
  explicit ShardFiles(std::string directory) : directory_(std::move(directory)) {}

  // The next shard's number, from 0 on. `layer` and `shard` outlive this.
  size_t Add(const LayerTableSpec& layer, const ShardSpec& shard, uint64_t shares);
  // Errors of ShardFile::Open. The file is good until the share is done.
  absl::StatusOr<const ShardFile*> BeginShare(size_t number);
  void EndShare(size_t number);

 private:
  struct Slot {
    const LayerTableSpec* layer = nullptr;
    const ShardSpec* shard = nullptr;
    Mutex mutex;
    uint64_t shares_left ABSL_GUARDED_BY(mutex) = 0;
    // Null before the first share and after the last.
    std::unique_ptr<ShardFile> file ABSL_GUARDED_BY(mutex);
  };

  const std::string directory_;
  std::deque<Slot> slots_;  // never moved
};

}  // namespace engram
