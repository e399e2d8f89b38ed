// Where a table set may appear beside the checkpoint that it is made of.
//
// Stateless. Looks at names and at what the file system says of them.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace engram {

// INVALID_ARGUMENT when `output` would be in the checkpoint's directory under a name that those who
// read it take for one of its files, or for a sign that one is not whole: ending in .safetensors,
// .json or .incomplete, say. Other names in it, and below it, are as good as elsewhere: the set is
// a directory, and nothing that is there is written over.
absl::Status CheckOutputBesideCheckpoint(const std::string& output, const std::string& checkpoint);

}  // namespace engram
