// The columns of some heads of every order: what a tensor-parallel rank reads of each layer, and
// what a partition holds of a table by default.
//
// Rank K of N reads heads [K*H/N, (K+1)*H/N) of H, rounded down. The ranks' slices are disjoint and
// together all columns, also where N does not divide H. Stateless and thread-safe.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/addressing/scheme.h"

namespace engram {

// One run of columns an order, of every layer of a valid scheme (all have the same columns). No
// heads: the slice of no columns. INVALID_ARGUMENT: heads beyond the scheme's.
absl::StatusOr<ColumnSlice> SliceOfHeads(const AddressScheme& scheme, uint32_t first_head,
                                         uint32_t heads);

}  // namespace engram
