// The table set that engramd makes of a released model's checkpoint (--checkpoint): one that links
// to the model's rows, kept in a directory from one start to the next.
//
// Stateless. Blocks: the first time for as long as reading the rows once takes, later for as long
// as the model's headers and tokenizer take; memory is bounded as packing's.
#pragma once

#include <spdlog/logger.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/base/clock.h"
#include "memstore/os/posix_file.h"
#include "server/base/life_cycle.h"

namespace engram {

// As `engram pack` has them.
struct CheckpointSource {
  std::string checkpoint;  // a directory
  std::string family;
  uint64_t rows_per_head = 0;  // 0: what config.json says, or the family's
  std::string token_map;       // empty: made from the checkpoint's tokenizer
};

// The bytes of the checkpoint's rows, and what else there is to say of it before they are read.
// CheckCheckpoint's errors.
absl::StatusOr<uint64_t> CheckCheckpointSource(const CheckpointSource& source);

// That what is kept in `directory` (--state-dir) does not lie in the checkpoint, nor the checkpoint
// in the set that is kept, symbolic links resolved: else INVALID_ARGUMENT names both. An empty
// directory is none.
absl::Status CheckCheckpointPlace(const CheckpointSource& source, const std::string& directory);

// Makes `directory` where it is not there, and keeps other processes that ask the same out of it
// while the descriptor is open: two would replace each other's set. FAILED_PRECONDITION where
// another has it. A file system without locks keeps nobody out.
absl::StatusOr<FileDescriptor> HoldStateDirectory(const std::string& directory);

// Whether HoldStateDirectory could make it, or finds one that may be read and written to; touches
// nothing, and says nothing of another process that has it. UNAVAILABLE names it.
absl::Status CheckStateDirectory(const std::string& directory);

// Links the checkpoint to `directory`/linked-checkpoint, where a set that would come out the same
// is kept, and returns that path. How far it is goes to the log every few seconds, and to `life`.
// FindOrLinkCheckpoint's errors.
absl::StatusOr<std::string> LinkCheckpointSet(const CheckpointSource& source,
                                              const std::string& directory, const LifeCycle& life,
                                              spdlog::logger& log, const Clock& clock);

// Of a status of serving such a set, kept at `set` from one start to the next: to DATA_LOSS is
// added how to have the set linked anew. Rows are read where it is loaded alone, so one that was
// linked to other rows than the files hold is found unchanged at every start.
absl::Status WithFixOfKeptSet(const absl::Status& status, const std::string& set);

}  // namespace engram
