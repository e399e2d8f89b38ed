// Whether row ids that stand [tokens, columns] are each of their own column.
//
// An id that is within the table and in another column's rows is a row like any other: nothing else
// finds it. Asked for by those who make ids outside of an Addresser (another engine's kernels, a
// foreign stub). Stateless and thread-safe; allocates nothing but an error's message. Cost: some
// tenths of a nanosecond an id, in vector code; none where it isn't called.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/addressing/scheme.h"

namespace engram {

// INVALID_ARGUMENT names the first id that is not among the rows of its column, its token and
// column, and where it can be told what went wrong: "ids local to a head?" (the id is what the
// column's offset was to be added to), "offset added twice?", or the column that it is of. Also:
// ids that are not whole tokens, and what ColumnSlice::Check refuses. `layer` is a valid scheme's,
// `slice` says which of its columns stand there (ColumnSlice::All for all of them). Id is uint32_t
// or uint64_t (RowId).
template <typename Id>
absl::Status CheckColumnIds(const LayerAddressing& layer, const ColumnSlice& slice,
                            absl::Span<const Id> ids);

}  // namespace engram
