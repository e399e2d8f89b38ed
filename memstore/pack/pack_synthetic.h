// Packs a synthetic table set: a family's shape, addresses and image token ids, rows that prove
// themselves (synthetic.h).
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/addressing/families.h"
#include "memstore/pack/pack_options.h"
#include "memstore/table/manifest.h"

namespace engram {

// The row encoding that the family is released in: what synthetic rows are as wide as.
RowEncoding ReleasedEncoding(const Family& family);

// INVALID_ARGUMENT for a layer that the synthetic rule has no number for.
absl::Status CheckSyntheticLayers(const PackOptions& options);

// Errors: those of CheckSyntheticLayers, MakePackScheme and TableSetWriter. Cost: about as fast as
// the device writes.
absl::StatusOr<Manifest> PackSynthetic(const Family& family, const PackOptions& options);

}  // namespace engram
