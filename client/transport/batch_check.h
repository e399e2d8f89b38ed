// What every transport checks of a batch before anything of it is lent or sent.
#pragma once

#include "absl/status/status.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"

namespace engram {

// INVALID_ARGUMENT names the layer and what is wrong: an empty batch, a layer that the table set
// has not or that is named twice, no rows (where the slice has columns), a row id out of range or,
// with a slice, out of its column's, a slice that does not fit the layer, a landing that is null,
// whose groups overlap or whose list of places is not as long as the rows, more rows than
// `capabilities.max_batch_rows`, a state that holds what is no compressed id. FAILED_PRECONDITION:
// a sequence state of another table set. UNIMPLEMENTED: token ids, token ids with slices (both
// versions are named), or a list of places, where the transport takes none. DEADLINE_EXCEEDED when
// the deadline has passed. The token ids of a batch by tokens are the owner's to check, their
// number and sequences are checked here. Cost: one pass over the row ids and places, or the
// sequences.
absl::Status CheckBatch(const BatchRequest& batch, const Manifest& manifest,
                        const Capabilities& capabilities, const Clock& clock);

// For those who gather or read rows by themselves, of a batch that CheckBatch took: errors of
// CheckHeldRows where the owner holds a part of the set.
absl::Status CheckBatchIsHeld(const BatchRequest& batch, const AttachedTableSet& set);

}  // namespace engram
