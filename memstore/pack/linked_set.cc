#include "memstore/pack/linked_set.h"

#include <fcntl.h>

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "memstore/addressing/token_map.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/safetensors/header.h"
#include "memstore/table/set_directory.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/side_file.h"
#include "memstore/table/side_files.h"

namespace engram {
namespace {

namespace fs = std::filesystem;

constexpr absl::string_view kGgufMagic = "GGUF";
// The length of a safetensors header, before it.
constexpr uint64_t kLengthBytes = 8;

// Whatever the working directory is, and wherever a link in the folder's path leads later.
absl::StatusOr<std::string> AbsolutePath(const std::string& path) {
  const fs::path given(path);
  std::error_code error;
  const fs::path folder =
      fs::canonical(given.has_parent_path() ? given.parent_path() : fs::path("."), error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot look at ", path));
  return (folder / given.filename()).string();
}

// Of the file's first bytes that say what is in it: a safetensors header, of a GGUF file nothing.
absl::StatusOr<uint64_t> HeaderBytes(const std::string& path) {
  ENGRAM_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(path, O_RDONLY | O_NONBLOCK));
  ENGRAM_RETURN_IF_ERROR(RegularFileBytes(file, path).status());
  char magic[kGgufMagic.size()];
  ENGRAM_RETURN_IF_ERROR(
      ReadFully(file, 0, absl::MakeSpan(reinterpret_cast<std::byte*>(magic), sizeof(magic)), path));
  if (absl::string_view(magic, sizeof(magic)) == kGgufMagic) return 0;
  ENGRAM_ASSIGN_OR_RETURN(const uint64_t header, SafetensorsHeaderBytes(path));
  return kLengthBytes + header;
}

absl::Status Differs(const std::string& directory, absl::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat("the linked set in ", directory, " ", what));
}

// What the files of a linked set are called. Whatever is called otherwise is not ours to remove.
constexpr const char* kOurNames[] = {kManifestFile, kManifestDigestFile, kTokenMapFile};
constexpr const char* kOurEndings[] = {kChecksumsSuffix, kSideFileSuffix};

bool IsNameOfOurs(absl::string_view name) {
  return absl::c_linear_search(kOurNames, name) ||
         absl::c_any_of(kOurEndings,
                        [&](absl::string_view ending) { return absl::EndsWith(name, ending); });
}

absl::Status NotOurs(const std::string& path, absl::string_view what) {
  return absl::FailedPreconditionError(
      absl::StrCat(path, " ", what,
                   ", so it is not a linked set that may be made anew: move it to another place, ",
                   "or have the links kept in another directory"));
}

// The names in the directory. FAILED_PRECONDITION: there is something that no linked set has.
absl::StatusOr<std::set<std::string>> NamesOfOurs(const std::string& directory) {
  std::set<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename();
    if (it->symlink_status(error).type() == fs::file_type::directory) {
      return NotOurs(directory, absl::StrCat("holds a directory ", QuoteForMessage(name)));
    }
    if (error) break;
    if (!IsNameOfOurs(name)) {
      return NotOurs(directory, absl::StrCat("holds ", QuoteForMessage(name)));
    }
    names.insert(name);
  }
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list ", directory));
  if (!names.empty() && names.count(kLinksFile) == 0 && names.count(kManifestFile) == 0) {
    return NotOurs(directory, absl::StrCat("has neither ", kLinksFile, " nor ", kManifestFile));
  }
  return names;
}

// Nothing where nothing is. A symbolic link is not followed.
absl::StatusOr<std::optional<std::set<std::string>>> NamesAt(const std::string& directory) {
  std::error_code error;
  const fs::file_type type = fs::symlink_status(directory, error).type();
  if (type == fs::file_type::not_found) return std::nullopt;
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot look at ", directory));
  if (type == fs::file_type::symlink) return NotOurs(directory, "is a symbolic link");
  if (type != fs::file_type::directory) return NotOurs(directory, "is no directory");
  return NamesOfOurs(directory);
}

// That the set's own files are whole: it was left alone since it was made.
absl::StatusOr<SideFiles> CheckFiles(const std::string& directory, const Manifest& manifest) {
  ENGRAM_RETURN_IF_ERROR(CheckSetDirectory(directory, manifest));
  if (const auto& map = manifest.scheme.token_map) {
    ENGRAM_RETURN_IF_ERROR(
        TokenMap::Load(JoinPath(directory, map->file), manifest.scheme.vocab_size, *map).status());
  }
  for (const LayerTableSpec& layer : manifest.layers) {
    for (const ShardSpec& shard : layer.shards) {
      ENGRAM_RETURN_IF_ERROR(LoadChecksums(directory, layer, shard).status());
    }
  }
  // As whoever loads it reads them.
  return LoadSideFiles(directory, "", manifest);
}

}  // namespace

absl::StatusOr<LinkedRows> LinkRows(const std::vector<LinkedLayer>& layers) {
  LinkedRows links;
  links.layers = layers;
  std::map<std::string, std::string> absolute;  // by the path as given
  for (LinkedLayer& layer : links.layers) {
    for (RowPart& part : layer.rows.parts) {
      for (RowPiece& piece : part.pieces) {
        const auto [path, is_new] = absolute.emplace(piece.file, std::string());
        if (is_new) {
          ENGRAM_ASSIGN_OR_RETURN(path->second, AbsolutePath(piece.file));
        }
        piece.file = path->second;
      }
    }
  }
  std::map<std::string, LinkedFile> files;  // two of the paths given may be one
  for (const auto& [given, path] : absolute) {
    if (files.count(path) > 0) continue;
    ENGRAM_ASSIGN_OR_RETURN(const uint64_t header_bytes, HeaderBytes(path));
    ENGRAM_ASSIGN_OR_RETURN(files[path], LookAtLinkedFile(path, header_bytes));
  }
  for (auto& [path, file] : files) links.files.push_back(std::move(file));
  return links;
}

absl::StatusOr<Manifest> FindLinkedSet(const std::string& directory,
                                       const LinkedSetContent& content) {
  ENGRAM_ASSIGN_OR_RETURN(Manifest found, LoadManifest(directory));
  Manifest expected;
  expected.name = content.name;
  expected.scheme = content.scheme;
  expected.layers = content.layers;
  // Shards and their checksums follow from the rows, which the links are of.
  for (LayerTableSpec& layer : expected.layers) {
    if (const LayerTableSpec* there = found.FindLayer(layer.layer)) layer.shards = there->shards;
  }
  const absl::StatusOr<Manifest> finished = FinishManifest(std::move(expected));
  if (!finished.ok() || finished->id != found.id) {
    return Differs(directory, "says another table than the checkpoint and the options do now");
  }
  ENGRAM_ASSIGN_OR_RETURN(const SideFiles side_files, CheckFiles(directory, found));
  ENGRAM_ASSIGN_OR_RETURN(const std::string now, LinksBody(content.links));
  if (side_files.links_body != now) return Differs(directory, "links to files that changed since");
  if (side_files.image_token_ids != content.image_token_ids) {
    return Differs(directory, "has other image token ids than the checkpoint now");
  }
  return found;
}

absl::StatusOr<bool> IsLinkedSet(const std::string& directory) {
  ENGRAM_ASSIGN_OR_RETURN(const auto names, NamesAt(directory));
  return names.has_value();
}

absl::Status RemoveLinkedSet(const std::string& directory) {
  ENGRAM_ASSIGN_OR_RETURN(auto names, NamesAt(directory));
  if (!names) return absl::OkStatus();
  // Those that it is known by last, of which either does.
  std::vector<std::string> paths;
  for (const char* last : {kManifestFile, kLinksFile}) {
    if (names->erase(last) > 0) paths.push_back(JoinPath(directory, last));
  }
  for (const std::string& name : *names) paths.insert(paths.begin(), JoinPath(directory, name));
  paths.push_back(directory);
  for (const std::string& path : paths) {
    std::error_code error;
    fs::remove(path, error);
    if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot remove ", path));
  }
  return absl::OkStatus();
}

}  // namespace engram
