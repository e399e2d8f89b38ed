// Linked sets (memstore/table/linked_rows.h) as packing makes them, and finds them again.
//
// Stateless. Cost: a look at each file that holds rows, and reading its header; of a set that is
// there its small files, all of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"
#include "memstore/table/linked_rows.h"
#include "memstore/table/manifest.h"

namespace engram {

// Links to the files that rows lie in, as these are now: each file by its absolute path, whose
// folder is resolved (the file itself may be a link, as in a cache of Hugging Face's). Errors of
// LookAtLinkedFile and SafetensorsHeaderBytes.
absl::StatusOr<LinkedRows> LinkRows(const std::vector<LinkedLayer>& layers);

// What a linked set consists of, before its rows are read.
struct LinkedSetContent {
  std::string name;
  const AddressScheme& scheme;
  std::vector<LayerTableSpec> layers;  // without shards
  const LinkedRows& links;
  std::vector<int32_t> image_token_ids;  // ascending, each once
};
// The manifest of the set in `directory` where that is whole and says just this, its links and
// side files too; else why it isn't so, NOT_FOUND where there is none. Reads the checksums, not the
// rows.
absl::StatusOr<Manifest> FindLinkedSet(const std::string& directory,
                                       const LinkedSetContent& content);

// Whether one may make a linked set at `directory` in place of what is there: true where a linked
// set of ours is, whole or not, or an empty directory; false where nothing is. Else
// FAILED_PRECONDITION names what is there and the fix: a model, a packed set, a symbolic link
// (whatever it leads to), anything that is not recognisably ours. Of ours is a directory that has
// links.side or a manifest, and nothing but files with names that a linked set's files have.
absl::StatusOr<bool> IsLinkedSet(const std::string& directory);
// Removes what IsLinkedSet is true of, and nothing else; that of which it is false is no error. Cut
// off anywhere, it leaves what IsLinkedSet is true of.
absl::Status RemoveLinkedSet(const std::string& directory);

}  // namespace engram
