// A linked set's rows: they lie in files of others, of a checkpoint say, and the set's directory
// holds links.side in place of shards (proto/FORMATS.md, "Linked sets"). Which files, as they were
// when the set was made, and where in them the rows of each layer lie.
//
// Plain values; functions are stateless and thread-safe. Whatever is read was checked: every piece
// lies in its file as that was, and the pieces of each part are all rows of the layer. That the
// files are still the same is CheckLinkedFiles' affair, that their rows are the block checksums'.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/table/joined_rows.h"
#include "memstore/table/manifest.h"
#include "memstore/table/side_files.h"

namespace engram {

// The longest header that a file's first bytes are compared of: bounds what a hostile links.side
// can make a reader take. A safetensors header has at most 100 MB.
inline constexpr uint64_t kMaxLinkedHeaderBytes = 128u << 20;

// A file as it was when the set was linked.
struct LinkedFile {
  std::string path;  // absolute
  uint64_t bytes = 0;
  int64_t modified_ns = 0;    // since 1970
  uint64_t header_bytes = 0;  // of its first bytes, which are compared; 0: none are
  std::string header_sha256;  // of those; empty: none are
};

struct LinkedLayer {
  uint32_t layer = 0;
  JoinedRows rows;  // each piece's file is one of LinkedRows::files
};

struct LinkedRows {
  std::vector<LinkedFile> files;
  std::vector<LinkedLayer> layers;  // those of the manifest, in its order
};

// What links.side says of the file now, its first `header_bytes` bytes included. NOT_FOUND and the
// like name the path; DATA_LOSS: it has fewer bytes.
absl::StatusOr<LinkedFile> LookAtLinkedFile(const std::string& path, uint64_t header_bytes);

// The body of links.side. INVALID_ARGUMENT: a path that is no UTF-8; RESOURCE_EXHAUSTED: it would
// be longer than kMaxLinksBytes (side_files.h).
absl::StatusOr<std::string> LinksBody(const LinkedRows& links);
// DATA_LOSS names `source` and what in it is not as it must be, for the layers of `manifest`.
absl::StatusOr<LinkedRows> ParseLinks(absl::string_view body, absl::string_view source,
                                      const Manifest& manifest);

// What links.side of the set in `directory` says, whose side files were read; nothing where there
// is none: the set has its rows itself. The body goes with it, for it may be long. ParseLinks'
// errors.
absl::StatusOr<std::optional<LinkedRows>> TakeLinkedRows(const std::string& directory,
                                                         const Manifest& manifest,
                                                         SideFiles& side_files);

// OK when every file is there and as it was. NOT_FOUND: one is gone; FAILED_PRECONDITION: one has
// another size, time or header. Names the file, where it was looked for, and the fix. Cost: one
// look at each file, and reading the headers.
absl::Status CheckLinkedFiles(const LinkedRows& links);

// Where rows [first_row, end_row) of a layer lie, for messages: "FILE (bytes 8..4103) and ...", a
// few of the places at most.
std::string WhereLinked(const JoinedRows& rows, RowId first_row, RowId end_row);
// The folders that the files lie in, ascending, each once.
std::vector<std::string> LinkedFolders(const LinkedRows& links);

}  // namespace engram
