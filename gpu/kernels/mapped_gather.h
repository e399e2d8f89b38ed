// Rows gathered by a device's kernel from a table that it can read in place.
//
// The loop is a flat one over words, so that neighbouring threads read neighbouring words of a row:
// over PCIe whole lines travel. Row ids may come from the device unchecked: one that is not among
// the rows that the table holds, or not of its own column, is not followed, and said so.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "gpu/device/device.h"
#include "gpu/kernels/mapped_gather_loop.h"
#include "memstore/addressing/scheme.h"
#include "memstore/gather/gather.h"

namespace engram {

struct MappedGather {
  GatherTable table;           // base: as the device sees it
  const RowId* ids = nullptr;  // device-readable, of rows of the whole table
  uint32_t count = 0;          // count * row_bytes below 2^31
  std::byte* rows = nullptr;   // device memory, back to back
  // Device-readable [column_count], where the ids stand [tokens, columns] and are to be held
  // against the rows of their columns; null: against the table's alone.
  const TableRowRange* columns = nullptr;
  uint32_t column_count = 0;
  uint32_t* bad_ids = nullptr;  // pinned; set to 1 when an id is not one of them
};

// Enqueues it. `multiprocessors`: how many the kernel may occupy; the host backend gathers in the
// stream's thread.
absl::Status EnqueueMappedGather(const MappedGather& gather, uint32_t multiprocessors,
                                 Stream& stream);

}  // namespace engram
