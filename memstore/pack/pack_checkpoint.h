// Packs a released checkpoint's rows into a table set, or links one to them.
//
// Streams: rows go from the safetensors files through a few megabytes a thread to the shards, past
// the page cache on both sides. With PackOptions::link they are read for their checksums alone, and
// the set says where they lie (memstore/table/linked_rows.h); its manifest is the packed set's.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "memstore/addressing/families.h"
#include "memstore/os/file_stamp.h"
#include "memstore/pack/checkpoint_layout.h"
#include "memstore/pack/pack_options.h"
#include "memstore/table/manifest.h"

namespace engram {

// Errors: those of ReadCheckpointScheme, LayOutLayer, LayOutNamedRows, StatedRecipe::CheckPieces
// and TableSetWriter; of links those of LinkRows. FAILED_PRECONDITION where a file changed after
// its header was read.
absl::StatusOr<Manifest> PackCheckpoint(const Family& family, const std::string& checkpoint,
                                        const PackOptions& options);

// What PackCheckpoint says before it reads a row or writes a file; else the bytes of the set's
// rows.
absl::StatusOr<uint64_t> CheckCheckpoint(const Family& family, const std::string& checkpoint,
                                         const PackOptions& options);

// PackCheckpoint with links, and `options.output` may be there: a linked set that would come out
// the same is kept as it is; one that is damaged or says something else is removed first, after
// `on_note` heard why. IsLinkedSet's errors for anything else that is there, which stays; a set
// stays too that could not be looked at.
struct LinkedSet {
  Manifest manifest;
  bool kept = false;
};
absl::StatusOr<LinkedSet> FindOrLinkCheckpoint(const Family& family, const std::string& checkpoint,
                                               PackOptions options);

// The files that a set is made of, each as it was when its header was read, by path.
using FilesAsRead = std::map<std::string, FileStamp>;

// The same of layers that were laid out, in the order of the scheme: PackCheckpoint's last step.
// FAILED_PRECONDITION, and no set, where one of `files` is not as it was any more.
absl::StatusOr<Manifest> PackLayers(const Family& family, PackOptions options,
                                    const PackScheme& scheme,
                                    const std::vector<CheckpointLayer>& layouts,
                                    std::vector<SideFileText> side_files, const FilesAsRead& files);

}  // namespace engram
