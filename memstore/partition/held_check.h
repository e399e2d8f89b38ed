// Whether rows that are asked for are held, and what those are told who ask for others.
//
// Pure functions, thread-safe; nothing is allocated but an error's message.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"
#include "memstore/partition/partition.h"

namespace engram {

bool HoldsAll(const HeldLayer& held);

// Whether its ranges are of a layer of so many rows, ascend, and neither overlap nor touch: of what
// an owner says. INVALID_ARGUMENT says what is wrong.
absl::Status CheckRanges(const HeldLayer& held, uint64_t table_rows);

// FAILED_PRECONDITION names the layer, the first id whose row is not held, its place, and what is
// held: its rows, and the columns that are held whole. Ids are the layer's rows. Id is uint32_t or
// uint64_t. Cost: nothing where all is held, else a binary search a row.
template <typename Id>
absl::Status CheckHeldRows(const HeldLayer& held, const LayerAddressing& addressing,
                           absl::Span<const Id> ids);

}  // namespace engram
