// What must hold within a manifest, whoever wrote it: a reader trusts every number that passed.
#pragma once

#include "absl/status/status.h"
#include "memstore/table/manifest.h"

namespace engram {

// INVALID_ARGUMENT names the field and its value. Stateless; cost: one pass.
absl::Status CheckManifest(const Manifest& manifest);

}  // namespace engram
