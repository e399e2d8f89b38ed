// Slices of columns as protobuf messages, as a client of any language sends them.
#pragma once

#include "absl/types/span.h"
#include "memstore/addressing/column_slice.h"
#include "proto/engram/v1/lookup.pb.h"

namespace engram::testing {

// Appends the runs as they are given, also those that no slice can have.
inline void AddRuns(absl::Span<const ColumnRun> runs, v1::ColumnSlice* slice) {
  for (const ColumnRun& run : runs) {
    v1::ColumnRun* const to = slice->add_runs();
    to->set_first_column(run.first_column);
    to->set_columns(run.columns);
  }
}

}  // namespace engram::testing
