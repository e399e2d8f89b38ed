// Reads the rows of a table set, or those that are held, into memory, every checksum of theirs
// verified on the way.
//
// The rows go straight from the files to their place, those of a linked set through a few megabytes
// a thread; several threads keep the device busy, fault in the memory and check what has come while
// it is still in the cache.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "memstore/os/ordered_work.h"
#include "memstore/partition/partition.h"
#include "memstore/store/arena.h"
#include "memstore/table/linked_rows.h"
#include "memstore/table/manifest.h"

namespace engram {

// The threads to load with: `asked` within limits, or for 0 a number that keeps a device busy.
uint32_t ChooseLoadThreads(uint32_t asked);

// The blocks of layer i of the manifest that have rows of held[i] in them (held_blocks.h) are read
// to arenas[i], which holds their memory; no other block is looked at. `links` is where a linked
// set's rows lie, null for a set that has them itself. `progress` may be empty; it hears of every
// few MiB, from one thread at a time, and of the last. DATA_LOSS, NOT_FOUND: the first wrong place
// of the set in the order of its layers, shards and blocks, whatever the threads' timing; the
// arenas then hold nothing that may be used. `cancelled` may be empty; it is asked every few MiB,
// by any thread: true ends it with CANCELLED.
absl::Status LoadRows(const std::string& directory, const Manifest& manifest,
                      absl::Span<const HeldLayer> held, const LinkedRows* links,
                      absl::Span<Arena> arenas, uint32_t threads, const ProgressFunction& progress,
                      const std::function<bool()>& cancelled);

}  // namespace engram
