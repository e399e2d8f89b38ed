#include "memstore/table/side_files.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/shard_layout.h"
#include "memstore/table/side_file.h"

namespace engram {
namespace {

using nlohmann::json;

constexpr char kTimeFormat[] = "%Y-%m-%dT%H:%M:%SZ";
constexpr char kPageChecksumsEnding[] = ".page-checksums";
constexpr char kReadFrom[] = "read_from";
// Of a SHA-256 in hexadecimal.
constexpr size_t kDigestCharacters = 64;

uint64_t ShardPages(const ShardSpec& shard) { return shard.file_bytes / kShardPageBytes; }

// What is no UTF-8 is replaced, and the text cut where a character ends.
std::string Kept(absl::string_view text) {
  const std::string valid =
      json(std::string(text)).dump(-1, ' ', false, json::error_handler_t::replace);
  std::string kept = json::parse(valid).get<std::string>();
  if (kept.size() <= kMaxProvenanceTextBytes) return kept;
  size_t end = kMaxProvenanceTextBytes;
  while (end > 0 && (static_cast<unsigned char>(kept[end]) & 0xC0) == 0x80) --end;
  kept.resize(end);
  return kept;
}

// The object that a body is, key by key. Keys that nobody asks for are let be.
class BodyObject {
 public:
  static absl::StatusOr<BodyObject> Parse(const std::string& path, const std::string& body) {
    json object = json::parse(body, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object()) return DamagedSideFile(path, "holds no JSON object");
    return BodyObject(path, std::move(object));
  }

  absl::Status Wrong(absl::string_view key, absl::string_view what) const {
    return DamagedSideFile(path_, absl::StrCat("says of \"", key, "\" ", what));
  }
  // The value, or null where the key is not there.
  const json* Find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() ? nullptr : &*it;
  }
  absl::Status GetText(const char* key, std::string& text) const {
    const json* value = Find(key);
    if (value == nullptr) return absl::OkStatus();
    if (!value->is_string()) return Wrong(key, "something that is no text");
    text = value->get<std::string>();
    if (text.size() <= kMaxProvenanceTextBytes) return absl::OkStatus();
    return Wrong(key, absl::StrCat("a text of ", text.size(), " bytes, more than ",
                                   kMaxProvenanceTextBytes));
  }
  absl::Status GetDigest(const char* key, std::string& digest) const {
    ENGRAM_RETURN_IF_ERROR(GetText(key, digest));
    const bool right =
        digest.size() == kDigestCharacters && std::all_of(digest.begin(), digest.end(), [](char c) {
          return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f');
        });
    if (right || digest.empty()) return absl::OkStatus();
    return Wrong(key, "something that is no SHA-256");
  }
  absl::Status GetCount(const char* key, uint64_t& count) const {
    const json* value = Find(key);
    if (value == nullptr) return absl::OkStatus();
    if (!value->is_number_unsigned()) return Wrong(key, "something that is no whole number from 0");
    count = value->get<uint64_t>();
    return absl::OkStatus();
  }
  // Nothing where the key is not there.
  absl::StatusOr<std::vector<json>> GetList(const char* key) const {
    const json* value = Find(key);
    if (value == nullptr) return std::vector<json>();
    if (!value->is_array()) return Wrong(key, "something that is no list");
    return std::vector<json>(value->begin(), value->end());
  }
  // An object within this one, which stands under `key`.
  absl::StatusOr<BodyObject> Within(const char* key, const json& value) const {
    if (!value.is_object()) return Wrong(key, "something that is no object");
    return BodyObject(path_, value);
  }
  absl::Status GetFlag(const char* key, bool& flag) const {
    const json* value = Find(key);
    if (value == nullptr) return absl::OkStatus();
    if (!value->is_boolean()) return Wrong(key, "neither true nor false");
    flag = value->get<bool>();
    return absl::OkStatus();
  }
  absl::Status GetTime(const char* key, absl::Time& time) const {
    std::string text, why;
    ENGRAM_RETURN_IF_ERROR(GetText(key, text));
    if (absl::ParseTime(absl::RFC3339_full, text, &time, &why) && time >= absl::UnixEpoch() &&
        time < absl::InfiniteFuture()) {
      return absl::OkStatus();
    }
    return Wrong(key, "no time of RFC 3339");
  }

 private:
  BodyObject(std::string path, json object) : path_(std::move(path)), object_(std::move(object)) {}

  std::string path_;
  json object_;
};

absl::StatusOr<SourceFile> ParseSourceFile(const BodyObject& object) {
  SourceFile file;
  ENGRAM_RETURN_IF_ERROR(object.GetText("path", file.path));
  if (file.path.empty()) return object.Wrong("path", "nothing");
  ENGRAM_RETURN_IF_ERROR(object.GetCount("bytes", file.bytes));
  ENGRAM_RETURN_IF_ERROR(object.GetCount("tensors", file.tensors));
  ENGRAM_ASSIGN_OR_RETURN(const std::vector<json> layers, object.GetList("layers"));
  for (const json& layer : layers) {
    if (!layer.is_number_unsigned() || layer.get<uint64_t>() > UINT32_MAX) {
      return object.Wrong("layers", "a layer that is no whole number from 0 to 4294967295");
    }
    file.layers.push_back(layer.get<uint32_t>());
  }
  return file;
}

// The body's own bound is the list's.
absl::Status ParseReadFrom(const BodyObject& body, ReadFrom& from) {
  const json* value = body.Find(kReadFrom);
  if (value == nullptr) return absl::OkStatus();
  ENGRAM_ASSIGN_OR_RETURN(const BodyObject object, body.Within(kReadFrom, *value));
  ENGRAM_RETURN_IF_ERROR(object.GetCount("left_out", from.left_out));
  ENGRAM_ASSIGN_OR_RETURN(const std::vector<json> files, object.GetList("files"));
  for (const json& file : files) {
    ENGRAM_ASSIGN_OR_RETURN(const BodyObject one, object.Within("files", file));
    ENGRAM_ASSIGN_OR_RETURN(SourceFile read, ParseSourceFile(one));
    from.files.push_back(std::move(read));
  }
  return absl::OkStatus();
}

absl::StatusOr<Provenance> ParseProvenance(const std::string& path, const std::string& body) {
  ENGRAM_ASSIGN_OR_RETURN(const BodyObject object, BodyObject::Parse(path, body));
  Provenance provenance;
  ENGRAM_RETURN_IF_ERROR(object.GetText("source_kind", provenance.source_kind));
  ENGRAM_RETURN_IF_ERROR(object.GetText("path", provenance.path));
  ENGRAM_RETURN_IF_ERROR(object.GetText("repository", provenance.repository));
  ENGRAM_RETURN_IF_ERROR(object.GetText("revision", provenance.revision));
  ENGRAM_RETURN_IF_ERROR(object.GetDigest("index_sha256", provenance.index_sha256));
  ENGRAM_RETURN_IF_ERROR(object.GetDigest("headers_sha256", provenance.headers_sha256));
  ENGRAM_RETURN_IF_ERROR(object.GetFlag("stored_constants", provenance.stored_constants));
  ENGRAM_RETURN_IF_ERROR(object.GetText("packer_version", provenance.packer_version));
  ENGRAM_RETURN_IF_ERROR(object.GetTime("packed_at", provenance.packed_at));
  ENGRAM_RETURN_IF_ERROR(ParseReadFrom(object, provenance.read_from));
  if (provenance.source_kind.empty()) return object.Wrong("source_kind", "nothing");
  return provenance;
}

absl::StatusOr<std::vector<int32_t>> ParseImageTokenIds(const std::string& path,
                                                        const std::string& body) {
  ENGRAM_ASSIGN_OR_RETURN(const BodyObject object, BodyObject::Parse(path, body));
  constexpr char kKey[] = "image_token_ids";
  const json* list = object.Find(kKey);
  if (list == nullptr || !list->is_array()) return object.Wrong(kKey, "something that is no list");
  if (list->size() > kMaxImageTokenIds) {
    return object.Wrong(kKey, absl::StrCat(list->size(), " ids, more than ", kMaxImageTokenIds));
  }
  std::vector<int32_t> ids;
  for (const json& value : *list) {
    // Whole numbers from 0 on are unsigned to the parser.
    if (!value.is_number_unsigned() || value.get<uint64_t>() > INT32_MAX) {
      return object.Wrong(kKey, "an id that is no whole number from 0 to 2147483647");
    }
    if (!ids.empty() && ids.back() >= value.get<int32_t>()) {
      return object.Wrong(kKey, "ids that do not ascend");
    }
    ids.push_back(value.get<int32_t>());
  }
  return ids;
}

absl::StatusOr<std::vector<uint32_t>> ParsePageChecksums(const std::string& path,
                                                         const std::string& body,
                                                         const ShardSpec& shard) {
  const uint64_t want = ShardPages(shard) * sizeof(uint32_t);
  if (body.size() != want) {
    return DamagedSideFile(
        path, absl::StrCat("holds ", body.size(), " bytes of checksums, the ", ShardPages(shard),
                           " pages of ", shard.file, " take ", want));
  }
  std::vector<uint32_t> words(ShardPages(shard));
  std::memcpy(words.data(), body.data(), body.size());
  return words;
}

// The first `files` of those that were read, and how many more there are.
json ReadFromJson(const ReadFrom& from, size_t files) {
  json list = json::array();
  for (size_t i = 0; i < files; ++i) {
    const SourceFile& file = from.files[i];
    list.push_back({{"path", Kept(file.path)},
                    {"bytes", file.bytes},
                    {"tensors", file.tensors},
                    {"layers", file.layers}});
  }
  return {{"files", std::move(list)}, {"left_out", from.left_out + (from.files.size() - files)}};
}

std::string BodyWithFiles(const Provenance& provenance, size_t files) {
  json object = {{"source_kind", Kept(provenance.source_kind)},
                 {"path", Kept(provenance.path)},
                 {"repository", Kept(provenance.repository)},
                 {"revision", Kept(provenance.revision)},
                 {"index_sha256", provenance.index_sha256},
                 {"headers_sha256", provenance.headers_sha256},
                 {"stored_constants", provenance.stored_constants},
                 {"packer_version", Kept(provenance.packer_version)},
                 {"packed_at", FormatPackedAt(provenance.packed_at)}};
  if (!provenance.read_from.files.empty()) {
    object[kReadFrom] = ReadFromJson(provenance.read_from, files);
  }
  return absl::StrCat(object.dump(2), "\n");
}

// Where side files of a set may lie, the directory that counts first.
struct Places {
  std::vector<std::string> directories;
  const Manifest& manifest;

  Places(const std::string& directory, const std::string& other, const Manifest& of)
      : directories{directory}, manifest(of) {
    if (!other.empty()) directories.push_back(other);
  }

  // What `parse` makes of the body of the first file of this name that is there, nothing where none
  // is; each of them is checked.
  template <typename Parse>
  auto Read(const std::string& name, absl::string_view kind, uint64_t max_bytes,
            const Parse& parse) const
      -> absl::StatusOr<std::optional<typename decltype(parse(name, name))::value_type>> {
    std::optional<typename decltype(parse(name, name))::value_type> first;
    for (const std::string& directory : directories) {
      const std::string path = JoinPath(directory, name);
      absl::StatusOr<std::string> body = ReadSideFile(path, kind, manifest.id, max_bytes);
      if (absl::IsNotFound(body.status())) continue;
      if (IsFileTooLong(body.status())) {
        return DamagedSideFile(
            path, absl::StrCat("is longer than one of kind ", kind,
                               " can be here: its body takes at most ", max_bytes, " bytes"));
      }
      ENGRAM_RETURN_IF_ERROR(body.status());
      ENGRAM_ASSIGN_OR_RETURN(auto value, parse(path, *std::move(body)));
      if (!first) first = std::move(value);
    }
    return first;
  }
};

struct FileBody {
  std::string path, body;
};

absl::StatusOr<std::optional<PageChecksums>> ReadPageChecksums(const Places& places,
                                                               const ShardSpec& shard) {
  return places.Read(
      PageChecksumsFile(shard), kPageChecksumsKind,
      std::min(ShardPages(shard) * sizeof(uint32_t), kMaxPageChecksumsBytes),
      [&shard](const std::string& path, const std::string& body) -> absl::StatusOr<PageChecksums> {
        ENGRAM_ASSIGN_OR_RETURN(std::vector<uint32_t> pages, ParsePageChecksums(path, body, shard));
        return PageChecksums{path, std::move(pages)};
      });
}

absl::StatusOr<SideFiles> ReadSmall(const Places& places) {
  SideFiles files;
  ENGRAM_ASSIGN_OR_RETURN(files.provenance, places.Read(kProvenanceFile, kProvenanceKind,
                                                        kMaxProvenanceBytes, ParseProvenance));
  ENGRAM_ASSIGN_OR_RETURN(auto ids, places.Read(kImageTokenIdsFile, kImageTokenIdsKind,
                                                kMaxImageTokenIdsBytes, ParseImageTokenIds));
  if (ids) files.image_token_ids = *std::move(ids);
  // Whole, and this set's. What they say is TakeLinkedRows's to read.
  ENGRAM_ASSIGN_OR_RETURN(
      auto links,
      places.Read(kLinksFile, kLinksKind, kMaxLinksBytes, [](std::string path, std::string body) {
        return absl::StatusOr<FileBody>(FileBody{std::move(path), std::move(body)});
      }));
  if (links && links->path == JoinPath(places.directories.front(), kLinksFile)) {
    files.links_body = std::move(links->body);
  }
  return files;
}

}  // namespace

std::string PageChecksumsFile(const ShardSpec& shard) {
  const std::string stem = shard.file.substr(0, shard.file.rfind('.'));
  return absl::StrCat(stem, kPageChecksumsEnding, kSideFileSuffix);
}

std::vector<std::string> SideFileNames(const Manifest& manifest) {
  std::vector<std::string> names = {kProvenanceFile, kImageTokenIdsFile, kLinksFile};
  for (const LayerTableSpec& layer : manifest.layers) {
    for (const ShardSpec& shard : layer.shards) names.push_back(PageChecksumsFile(shard));
  }
  return names;
}

std::string SideDirectory(const std::string& state_directory, const std::string& set_id) {
  return state_directory.empty() ? "" : JoinPath(state_directory, set_id);
}

bool SameSource(const Provenance& a, const Provenance& b) {
  if (a.source_kind != b.source_kind) return false;
  if (!a.repository.empty() && !b.repository.empty()) {
    return a.repository == b.repository && a.revision == b.revision;
  }
  return a.path == b.path && a.index_sha256 == b.index_sha256;
}

std::string SourceText(const Provenance& provenance) {
  if (!provenance.repository.empty()) {
    return QuoteForMessage(absl::StrCat(
        provenance.repository, provenance.revision.empty() ? "" : "@", provenance.revision));
  }
  if (!provenance.path.empty()) return QuotePathForMessage(provenance.path);
  if (provenance.source_kind == kSyntheticSource) return "made-up rows";
  return absl::StrCat("an unnamed ", QuoteForMessage(provenance.source_kind));
}

std::string ProvenanceText(const Provenance& provenance) {
  const bool has_place = !provenance.repository.empty() && !provenance.path.empty();
  return absl::StrCat(SourceText(provenance),
                      has_place ? absl::StrCat(" (", QuoteForMessage(provenance.source_kind), " ",
                                               QuotePathForMessage(provenance.path), ")")
                                : std::string(),
                      provenance.stored_constants ? ", by its stored constants" : "", ", packed ",
                      FormatPackedAt(provenance.packed_at), " by version ",
                      QuoteForMessage(provenance.packer_version));
}

std::string ProvenanceBody(const Provenance& provenance) {
  // Names of control characters take many times the usual room: fewer files then.
  for (size_t files = std::min(provenance.read_from.files.size(), kMaxSourceFiles);; files /= 2) {
    std::string body = BodyWithFiles(provenance, files);
    if (body.size() <= kMaxProvenanceBytes || files == 0) return body;
  }
}

std::string FormatPackedAt(absl::Time time) {
  return absl::FormatTime(kTimeFormat, time, absl::UTCTimeZone());
}

std::string ImageTokenIdsBody(std::vector<int32_t> ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  ENGRAM_CHECK(ids.size() <= kMaxImageTokenIds && (ids.empty() || ids.front() >= 0),
               "image token ids that nobody checked");
  json object;
  object["image_token_ids"] = ids;
  return absl::StrCat(object.dump(2), "\n");
}

std::string PageChecksumsBody(absl::Span<const uint32_t> checksums) {
  std::string body(checksums.size() * sizeof(uint32_t), '\0');
  std::memcpy(body.data(), checksums.data(), body.size());
  return body;
}

absl::StatusOr<SideFiles> LoadSmallSideFiles(const std::string& directory,
                                             const std::string& other_directory,
                                             const Manifest& manifest) {
  return ReadSmall(Places(directory, other_directory, manifest));
}

absl::StatusOr<SideFiles> LoadSideFiles(const std::string& directory,
                                        const std::string& other_directory,
                                        const Manifest& manifest) {
  const Places places(directory, other_directory, manifest);
  ENGRAM_ASSIGN_OR_RETURN(SideFiles files, ReadSmall(places));
  files.page_checksums = true;
  for (const LayerTableSpec& layer : manifest.layers) {
    for (const ShardSpec& shard : layer.shards) {
      ENGRAM_ASSIGN_OR_RETURN(const auto checksums, ReadPageChecksums(places, shard));
      if (!checksums) files.page_checksums = false;
    }
  }
  return files;
}

absl::StatusOr<std::optional<PageChecksums>> LoadPageChecksums(const std::string& directory,
                                                               const std::string& other_directory,
                                                               const Manifest& manifest,
                                                               const ShardSpec& shard) {
  return ReadPageChecksums(Places(directory, other_directory, manifest), shard);
}

absl::Status PageDiffers(const PageChecksums& checksums, const ShardSpec& shard, uint64_t page) {
  return DamagedSideFile(
      checksums.path,
      absl::StrCat("says another checksum of page ", page, " of ", shard.file, " (bytes ",
                   page * kShardPageBytes, " to ", (page + 1) * kShardPageBytes - 1,
                   "), whose block matches the set's own checksum"));
}

}  // namespace engram
