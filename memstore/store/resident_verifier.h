// Goes once through the blocks of a loaded table set and holds each against its checksum, where it
// lies in memory: every byte of rows and padding. Of a partition these are the blocks that are
// held. Of a partition, the blocks that are held.
//
// A step at a time, so that whoever drives it can rest, end it, and let go of the set between two
// steps: it holds nothing of the set itself. One thread's; different ones may verify the same set.
// An error that the machine's memory reports by itself ends the process (SIGBUS), as it would at a
// lookup.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/store/held_blocks.h"
#include "memstore/store/table_set.h"

namespace engram {

class ResidentVerifier {
 public:
  // A step takes whole blocks until it has this much, as packed one: about 8 us of a core, short
  // beside a lookup's round trip, and 250 steps a second at 64 MiB/s.
  static constexpr uint64_t kStepBytes = 256u << 10;

  // What all steps over `set` verify together.
  static uint64_t BytesOf(const TableSet& set);

  // The bytes of this step; 0 once the set was verified to its end. DATA_LOSS names set, layer,
  // file, block and rows, and comes again from every further step. `set` is the same throughout.
  absl::StatusOr<uint64_t> Step(const TableSet& set);

 private:
  absl::Status Damaged(const TableSet& set) const;
  bool FindBlock(const TableSet& set);  // false: there is none left

  size_t layer_ = 0;
  size_t shard_ = 0;
  bool shard_begun_ = false;
  std::vector<BlockRun> runs_;  // of the shard
  size_t run_ = 0;              // that is under way
  uint64_t block_ = 0;          // of it, the next one
};

}  // namespace engram
