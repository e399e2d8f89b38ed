// For those who gather from a set's tables by themselves, beside its row source (shared memory,
// RDMA): whether the tables hold the rows. Asked where a client attaches. Thread-safe.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "memstore/store/table_set.h"

namespace engram {

// FAILED_PRECONDITION names the set, `way` ("over RDMA") and what to use in its place: its rows are
// brought to memory as they are asked for (RowSource::resident).
absl::Status CheckResident(const TableSet& set, absl::string_view way);

}  // namespace engram
