// The shards of a table set, opened for reading and checking their rows: files of the set's own, or
// of a linked set (linked_rows.h) rows in files of others.
//
// A ShardFile is shared freely between threads; a LinkedBlockReader is one thread's. ShardFiles
// keeps open what is being read and no more: a set can have more shards than a process may have
// descriptors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/base/mutex.h"
#include "memstore/os/direct_file.h"
#include "memstore/table/joined_rows.h"
#include "memstore/table/linked_rows.h"
#include "memstore/table/manifest.h"

namespace engram {

class ShardFile {
 public:
  // Loads the shard's checksums, opens its file and verifies its size and its header page.
  // NOT_FOUND when a file of it is missing; DATA_LOSS when one is not what the manifest says.
  // `layer` and `shard` outlive it.
  static absl::StatusOr<ShardFile> Open(const std::string& directory, const LayerTableSpec& layer,
                                        const ShardSpec& shard);

  // Of a shard whose rows lie in files of others: loads its checksums and verifies that they are of
  // the header that it would have. No file of rows is opened. `rows`, the layer's, outlives it.
  static absl::StatusOr<ShardFile> OpenLinked(const std::string& directory,
                                              const LayerTableSpec& layer, const ShardSpec& shard,
                                              const JoinedRows& rows);

  const LayerTableSpec& layer() const { return *layer_; }
  const ShardSpec& shard() const { return *shard_; }
  // Of a linked shard where the layer's rows lie, null for one that has a file of its own.
  const JoinedRows* linked_rows() const { return linked_rows_; }
  // Of one that has a file of its own.
  const DirectReader& reader() const { return *reader_; }
  // Whether `bytes` are block `block`, padding included. DATA_LOSS names file, block, bytes, rows.
  absl::Status CheckBlock(uint64_t block, absl::Span<const std::byte> bytes) const;

 private:
  ShardFile(const LayerTableSpec& layer, const ShardSpec& shard, std::optional<DirectReader> reader,
            const JoinedRows* linked_rows, std::vector<uint32_t> checksums)
      : layer_(&layer),
        shard_(&shard),
        reader_(std::move(reader)),
        linked_rows_(linked_rows),
        checksums_(std::move(checksums)) {}
  absl::Status CheckHeader() const;

  const LayerTableSpec* layer_;
  const ShardSpec* shard_;
  std::optional<DirectReader> reader_;  // nothing: linked
  const JoinedRows* linked_rows_;
  std::vector<uint32_t> checksums_;  // [0] the header's, [1..] the blocks'
};

// Reads blocks of linked shards as they would lie in a shard's file. Best asked in the order of the
// layers: what it has open for one is closed for the next. Memory: as JoinedRowReader's.
class LinkedBlockReader {
 public:
  // Blocks [first_block, end_block) of a linked shard, padding included: as many bytes as `out` has
  // room for. JoinedRowReader's errors.
  absl::Status Read(const ShardFile& file, uint64_t first_block, uint64_t end_block,
                    absl::Span<std::byte> out);

 private:
  const JoinedRows* rows_ = nullptr;  // that reader_ reads
  std::unique_ptr<JoinedRowReader> reader_;
};

// Work on each shard comes in shares; it is opened for the first one and closed after the last one.
// So with shares taken in order, at most one shard a thread and one more are open. Add() is one
// thread's, before the others begin.
class ShardFiles {
 public:
  // `links`, null for a set that has its rows itself, outlives this.
  ShardFiles(std::string directory, const LinkedRows* links)
      : directory_(std::move(directory)), links_(links) {}

  // The next shard's number, from 0 on. `layer`, the manifest's layer number `layer_index`, and
  // `shard` outlive this.
  size_t Add(const LayerTableSpec& layer, size_t layer_index, const ShardSpec& shard,
             uint64_t shares);
  // Errors of ShardFile::Open and OpenLinked. The file is good until the share is done.
  absl::StatusOr<const ShardFile*> BeginShare(size_t number);
  void EndShare(size_t number);

 private:
  struct Slot {
    const LayerTableSpec* layer = nullptr;
    const ShardSpec* shard = nullptr;
    const JoinedRows* linked_rows = nullptr;  // null: the shard has a file of its own
    Mutex mutex;
    uint64_t shares_left ABSL_GUARDED_BY(mutex) = 0;
    // Null before the first share and after the last.
    std::unique_ptr<ShardFile> file ABSL_GUARDED_BY(mutex);
  };

  const std::string directory_;
  const LinkedRows* const links_;
  std::deque<Slot> slots_;  // never moved
};

}  // namespace engram
