// What a batch's error says beside its code and words to whoever has other owners to ask: that the
// connection broke before an answer came, or when there is room again. Marks travel with copies of
// the status, and are shown to nobody.
//
// Stateless and thread-safe.
#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace engram {

void MarkBroken(absl::Status* status);
bool IsBroken(const absl::Status& status);

void MarkRetryAfter(absl::Duration delay, absl::Status* status);
// Zero: not marked.
absl::Duration RetryAfterOf(const absl::Status& status);

}  // namespace engram
