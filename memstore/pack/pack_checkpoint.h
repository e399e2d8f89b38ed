// Packs a released checkpoint's rows into a table set.
//
// Streams: rows go from the safetensors files through a few megabytes a thread to the shards, past
// the page cache on both sides.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "memstore/addressing/families.h"
#include "memstore/pack/checkpoint_layout.h"
#include "memstore/pack/pack_options.h"
#include "memstore/table/manifest.h"

namespace engram {

// Errors: those of ReadCheckpointScheme, LayOutLayer, LayOutNamedRows, StatedRecipe::CheckPieces
// and TableSetWriter.
absl::StatusOr<Manifest> PackCheckpoint(const Family& family, const std::string& checkpoint,
                                        const PackOptions& options);

// The same of layers that were laid out, in the order of the scheme: PackCheckpoint's last step.
absl::StatusOr<Manifest> PackLayers(const Family& family, const PackOptions& options,
                                    const PackScheme& scheme,
                                    const std::vector<CheckpointLayer>& layouts,
                                    const std::vector<SideFileText>& side_files);

}  // namespace engram
