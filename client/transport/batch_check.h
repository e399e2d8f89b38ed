// What every transport checks of a batch before anything of it is lent or sent.
#pragma once

#include "absl/status/status.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"

namespace engram {

// INVALID_ARGUMENT names the layer and what is wrong: an empty batch, a layer that the table set
// has not or that is named twice, no rows, a row id out of range, a landing that is null or whose
// groups overlap, more rows than `max_batch_rows`. DEADLINE_EXCEEDED when the deadline has passed.
// Of a batch by token ids besides: UNIMPLEMENTED when `max_sequence_tokens` is 0, and
// INVALID_ARGUMENT for sequences that are not the token ids there are; the ids themselves are the
// owner's to check. Cost: one pass over the row ids, or the sequences.
absl::Status CheckBatch(const BatchRequest& batch, const Manifest& manifest,
                        uint64_t max_batch_rows, uint32_t max_sequence_tokens = 0,
                        const Clock& clock = RealClock());

}  // namespace engram
