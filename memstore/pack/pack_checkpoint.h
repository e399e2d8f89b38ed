// Packs a released checkpoint's rows into a table set.
//
// Streams: rows go from the safetensors files through a few megabytes a thread to the shards, past
// the page cache on both sides.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "memstore/addressing/families.h"
#include "memstore/pack/pack_options.h"
#include "memstore/table/manifest.h"

namespace engram {

// Errors: those of ReadCheckpointScheme, LayOutLayer, StatedRecipe::CheckPieces and TableSetWriter.
absl::StatusOr<Manifest> PackCheckpoint(const Family& family, const std::string& checkpoint,
                                        const PackOptions& options);

}  // namespace engram
