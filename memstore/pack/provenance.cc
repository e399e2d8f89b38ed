#include "memstore/pack/provenance.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/wire/version.h"

namespace engram {
namespace {

namespace fs = std::filesystem;

constexpr absl::string_view kModelFolder = "models--";
constexpr absl::string_view kSnapshots = "snapshots";

// The innermost such folders.
SourceName SourceOfFolders(const fs::path& path) {
  const std::vector<std::string> folders(path.begin(), path.end());
  for (size_t i = folders.size(); i-- > 0;) {
    absl::string_view model = folders[i];
    if (!absl::ConsumePrefix(&model, kModelFolder) || model.empty()) continue;
    SourceName source;
    const size_t owner_end = model.find("--");
    source.repository =
        owner_end == absl::string_view::npos
            ? std::string(model)
            : absl::StrCat(model.substr(0, owner_end), "/", model.substr(owner_end + 2));
    if (i + 2 < folders.size() && folders[i + 1] == kSnapshots) source.revision = folders[i + 2];
    return source;
  }
  return {};
}

std::string WholePath(const std::string& path) {
  std::error_code error;
  const fs::path whole = fs::absolute(path, error).lexically_normal();
  if (error) return path;
  // "model/" is "model".
  return whole.has_filename() ? whole.string() : whole.parent_path().string();
}

// What of the rows lies in one file.
struct RowsInFile {
  std::set<std::string> tensors;
  std::set<uint32_t> layers;
};

// A commit, a tag or a branch without folders: anything else after an @ is part of a name.
bool IsRevision(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(c) || absl::StrContains("._-", c);
  });
}

}  // namespace

SourceName SourceOfPath(const std::string& path) {
  SourceName source = SourceOfFolders(WholePath(path));
  if (!source.repository.empty()) return source;
  std::error_code error;
  const fs::path target = fs::canonical(path, error);
  return error ? source : SourceOfFolders(target);
}

SourceName SourceOfText(absl::string_view text) {
  const size_t at = text.rfind('@');
  if (at == absl::string_view::npos || at == 0 || !IsRevision(text.substr(at + 1))) {
    return {std::string(text), ""};
  }
  return {std::string(text.substr(0, at)), std::string(text.substr(at + 1))};
}

Provenance MakeProvenance(absl::string_view source_kind, const std::string& path,
                          const PackOptions& options) {
  Provenance provenance;
  provenance.source_kind = std::string(source_kind);
  if (!path.empty()) provenance.path = WholePath(path);
  SourceName source;
  if (!options.source.empty()) {
    source = SourceOfText(options.source);
  } else if (!path.empty()) {
    source = SourceOfPath(path);
  }
  provenance.repository = std::move(source.repository);
  provenance.revision = std::move(source.revision);
  provenance.stored_constants = options.use_stored_constants;
  provenance.packer_version = kEngramVersion;
  provenance.packed_at = options.wall_now();
  return provenance;
}

Provenance CheckpointProvenance(const Checkpoint& checkpoint, const PackOptions& options) {
  Provenance provenance = MakeProvenance(kCheckpointSource, checkpoint.directory(), options);
  provenance.index_sha256 = checkpoint.index_sha256();
  provenance.headers_sha256 = checkpoint.headers_sha256();
  return provenance;
}

absl::StatusOr<ReadFrom> FilesOf(const std::string& folder, const AddressScheme& scheme,
                                 const std::vector<CheckpointLayer>& layouts) {
  const fs::path base = WholePath(folder);
  std::map<std::string, RowsInFile> files;
  for (size_t i = 0; i < layouts.size(); ++i) {
    for (const LayerPart& part : layouts[i].parts) {
      for (const RowRun& run : part.runs) {
        RowsInFile& file = files[run.tensor->file];
        file.tensors.insert(run.tensor->name);
        file.layers.insert(scheme.layers[i].layer);
      }
    }
  }
  ReadFrom from;
  for (const auto& [path, rows] : files) {
    std::error_code error;
    const uint64_t bytes = fs::file_size(path, error);
    if (error) {
      return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot look at ", path));
    }
    from.files.push_back({fs::path(WholePath(path)).lexically_proximate(base).string(),
                          bytes,
                          rows.tensors.size(),
                          {rows.layers.begin(), rows.layers.end()}});
  }
  return from;
}

std::vector<SideFileText> SourceSideFiles(const Provenance& provenance,
                                          const std::vector<int32_t>& image_token_ids) {
  std::vector<SideFileText> files;
  files.push_back({kProvenanceFile, kProvenanceKind, ProvenanceBody(provenance)});
  if (!image_token_ids.empty()) {
    files.push_back({kImageTokenIdsFile, kImageTokenIdsKind, ImageTokenIdsBody(image_token_ids)});
  }
  return files;
}

}  // namespace engram
