// How many rows ahead a client prefetches in tables that it maps: measured when it attaches, as the
// owner does when it loads them (gather_tuning.h), for the client's processor may be another one,
// on another node.
//
// Stateless. Takes up to kMostCalibration for each row width that has a table which caches do not
// hold, and nothing for others.
#pragma once

#include "absl/types/span.h"
#include "memstore/base/clock.h"
#include "memstore/partition/partition.h"
#include "memstore/store/table_set.h"

namespace engram {

// Sets ahead_rows of every table: of a width's tables the largest is measured, for all of them. The
// rows are resident; `held` says which, of each layer, and is empty where all are. Of those the
// longest range of a layer is what counts.
void CalibrateMapped(absl::Span<LoadedLayer> layers, absl::Span<const HeldLayer> held,
                     const Clock& clock);

}  // namespace engram
