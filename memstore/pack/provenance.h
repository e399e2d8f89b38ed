// What is told of where a table set's rows came from, in its side files: for people, and no part of
// the set's id (proto/FORMATS.md, "Side files").
//
// Stateless. The time is the injected one (PackOptions::wall_now).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/addressing/scheme.h"
#include "memstore/pack/checkpoint_layout.h"
#include "memstore/pack/pack_options.h"
#include "memstore/safetensors/checkpoint.h"
#include "memstore/table/side_files.h"

namespace engram {

struct SourceName {
  std::string repository;  // empty: not known
  std::string revision;    // empty: not known
};
// By the folders of a cache of Hugging Face's, models--OWNER--NAME/snapshots/REVISION, anywhere on
// the way to `path`, or to what it leads to where it is a link.
SourceName SourceOfPath(const std::string& path);
// By what --source says: "REPOSITORY@REVISION", or all of it is the repository. A repository need
// not have an owner: some of Hugging Face's have none ("gpt2"), and others are elsewhere.
SourceName SourceOfText(absl::string_view text);

// Of rows from `path`, which is a `source_kind` (side_files.h) and may be empty; --source counts
// before what the path tells.
Provenance MakeProvenance(absl::string_view source_kind, const std::string& path,
                          const PackOptions& options);
// The same of a checkpoint, with the digests of its index and of the headers that were read.
Provenance CheckpointProvenance(const Checkpoint& checkpoint, const PackOptions& options);

// The files that the rows of `layouts` lie in, one layout a layer of `scheme`, by their paths from
// `folder` on. Looks at each file's size: an error names the file.
absl::StatusOr<ReadFrom> FilesOf(const std::string& folder, const AddressScheme& scheme,
                                 const std::vector<CheckpointLayer>& layouts);

// The side files that say so, those of image token ids where there are any.
std::vector<SideFileText> SourceSideFiles(const Provenance& provenance,
                                          const std::vector<int32_t>& image_token_ids);

}  // namespace engram
