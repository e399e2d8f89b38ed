// Reads a whole table set and says whether every byte of it is what was packed.
//
// Stateless. Works with several threads, past the page cache, in bounded memory; cost: about as
// fast as the device reads. The first error in a fixed order is returned, whatever the threads'
// timing: manifest, the directory's entries by name, token map, side files, the files that it is
// linked to, then layer by layer each shard's checksum file, header and blocks, and what page
// checksums say of them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "memstore/os/ordered_work.h"
#include "memstore/table/manifest.h"

namespace engram {

struct VerifyOptions {
  uint32_t threads = 0;          // 0: chosen from the cores
  ProgressFunction on_progress;  // in bytes of rows
};

// The manifest of a set that is whole. NOT_FOUND: no set, or a file of it is missing. DATA_LOSS:
// something is not what was packed, naming the file and, within a shard, block and byte range.
// FAILED_PRECONDITION: the token map is another one, a side file another set's, or a file changed
// that the set is linked to. INVALID_ARGUMENT: the manifest contradicts itself.
absl::StatusOr<Manifest> VerifyTableSet(const std::string& directory, const VerifyOptions& options);

}  // namespace engram
