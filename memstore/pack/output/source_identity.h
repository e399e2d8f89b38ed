// What tells the files that rows are read from from any others, and from themselves as they were
// before a change: by which a killed run is gone on with, or not (table_set_writer.h).
//
// Stateless. Cost: a few megabytes of each file are read, the most where its header is the longest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/table/joined_rows.h"

namespace engram {

// Of what stands before a file's first row, its header, the most that counts.
inline constexpr uint64_t kMaxIdentityHeadBytes = 16u << 20;

// Of each file the path without links, its stamp (memstore/os/file_stamp.h) and the SHA-256 of its
// header; where each piece of
// each layer's rows lies. Errors of opening and reading a file, which name it.
absl::StatusOr<std::string> SourceIdentity(const std::vector<JoinedRows>& layers);

// For a message: the first file that is in both identities and not the same, and what of it
// changed; empty where that is not the difference. `then` may be anything.
std::string ChangedFile(absl::string_view then, absl::string_view now);

}  // namespace engram
