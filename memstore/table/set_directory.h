// Whether a table set's directory holds the files of its manifest and nothing else but side files
// of the names that there are (side_files.h), whose reading checks them.
//
// Stateless. Cost: a directory listing; no file is opened.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "memstore/table/manifest.h"

namespace engram {

// Nothing missing (NOT_FOUND), nothing else there, every file a plain one, no link, of the right
// size (DATA_LOSS). The first by name. A linked set (linked_rows.h) has links.side in place of
// shards; one that has both is DATA_LOSS.
absl::Status CheckSetDirectory(const std::string& directory, const Manifest& manifest);

}  // namespace engram
