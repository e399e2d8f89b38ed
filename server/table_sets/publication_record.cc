#include "server/table_sets/publication_record.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "memstore/addressing/set_id.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/manifest.h"
#include "server/base/log.h"

namespace engram {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;
// kMostNames with paths of the greatest length, several times over.
constexpr uint64_t kMaxFileBytes = uint64_t{8} << 20;
constexpr size_t kIdDigits = 64;
// No name is published so often.
constexpr uint64_t kMostGeneration = uint64_t{1} << 62;
// Whatever the umask: it says what is served at the next start.
constexpr uint32_t kMode = 0644;

std::string Absolute(const std::string& directory) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(directory, error);
  return error ? directory : absolute.string();
}

absl::Status NotOurs(const std::string& path, absl::string_view what) {
  return absl::DataLossError(absl::StrCat(path, ", which keeps what operators published, ", what,
                                          ": start engramd with --ignore-recorded, which serves "
                                          "what its flags say, and publish again; ",
                                          "or remove the file"));
}

// A member of one type; nothing where it is not that.
std::optional<std::string> Text(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

std::optional<Publication> ParseOne(const json& one) {
  if (!one.is_object()) return std::nullopt;
  const std::optional<std::string> name = Text(one, "name");
  const auto generation = one.find("generation");
  if (!name || name->empty() || generation == one.end() || !generation->is_number_unsigned()) {
    return std::nullopt;
  }
  Publication publication{.name = *name, .generation = generation->get<uint64_t>()};
  // It grows by one with each publication.
  if (publication.generation >= kMostGeneration) return std::nullopt;
  const std::optional<std::string> id = Text(one, "id");
  const std::optional<std::string> directory = Text(one, "directory");
  if (!id && !directory) return publication;  // a retired name
  if (!id || !directory || directory->empty()) return std::nullopt;
  if (id->size() != kIdDigits || !LooksLikeAnId(*id)) return std::nullopt;
  publication.id = *id;
  publication.directory = *directory;
  return publication;
}

}  // namespace

absl::StatusOr<PublicationRecord::ByName> PublicationRecord::Parse(const std::string& text) {
  const json whole = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!whole.is_object()) return absl::DataLossError("is not JSON, or not whole");
  const auto version = whole.find("version");
  if (version != whole.end() && version->is_number_integer() && *version > kVersion) {
    return absl::FailedPreconditionError("is of a newer engramd");
  }
  const auto list = whole.find("publications");
  if (version == whole.end() || *version != kVersion || list == whole.end() || !list->is_array() ||
      list->size() > kMostNames) {
    return absl::DataLossError("is not what engramd writes there");
  }
  ByName publications;
  for (const json& one : *list) {
    std::optional<Publication> publication = ParseOne(one);
    if (!publication) return absl::DataLossError("is not what engramd writes there");
    const std::string name = publication->name;
    if (!publications.emplace(name, *std::move(publication)).second) {
      return absl::DataLossError(absl::StrCat("has ", QuoteForMessage(name), " twice"));
    }
  }
  return publications;
}

absl::StatusOr<std::unique_ptr<PublicationRecord>> PublicationRecord::Open(
    const std::string& state_directory) {
  std::unique_ptr<PublicationRecord> record(new PublicationRecord(state_directory));
  const std::string path = record->path();
  const absl::StatusOr<std::string> text = ReadWholeFile(path, kMaxFileBytes);
  if (absl::IsNotFound(text.status())) return record;
  if (!text.ok()) return NotOurs(path, absl::StrCat("is not read: ", text.status().message()));
  absl::StatusOr<ByName> publications = Parse(*text);
  if (!publications.ok()) {
    const absl::Status status = NotOurs(path, publications.status().message());
    return absl::Status(publications.status().code(), status.message());
  }
  {
    MutexLock lock(record->mutex_);
    record->publications_ = *std::move(publications);
  }
  return record;
}

std::unique_ptr<PublicationRecord> PublicationRecord::OpenIgnoring(
    const std::string& state_directory) {
  absl::StatusOr<std::unique_ptr<PublicationRecord>> read = Open(state_directory);
  if (!read.ok()) {
    return std::unique_ptr<PublicationRecord>(new PublicationRecord(state_directory));
  }
  {
    MutexLock lock((*read)->mutex_);
    for (auto& [name, publication] : (*read)->publications_) {
      publication.id.clear();
      publication.directory.clear();
    }
  }
  return *std::move(read);
}

std::string PublicationRecord::path() const { return JoinPath(directory_, kFile); }

std::vector<Publication> PublicationRecord::List() const {
  std::vector<Publication> list;
  MutexLock lock(mutex_);
  for (const auto& [name, publication] : publications_) {
    if (!publication.id.empty()) list.push_back(publication);
  }
  return list;
}

absl::StatusOr<uint64_t> PublicationRecord::Publish(const std::string& name, const std::string& id,
                                                    const std::string& directory) {
  MutexLock lock(mutex_);
  ByName changed = publications_;
  Publication& one = changed[name];
  if (changed.size() > kMostNames) {
    return absl::ResourceExhaustedError(absl::StrCat(
        path(), " has ", kMostNames, " names: stop engramd and remove the file, or those that are ",
        "of no use any more"));
  }
  const bool is_same = one.id == id;
  one = {.name = name,
         .id = id,
         .directory = Absolute(directory),
         .generation = one.generation + (is_same ? 0 : 1)};
  const auto was = publications_.find(name);
  if (was != publications_.end() && was->second == one) return one.generation;
  ENGRAM_RETURN_IF_ERROR(Write(changed));
  const uint64_t generation = one.generation;
  publications_ = std::move(changed);
  return generation;
}

absl::Status PublicationRecord::Retire(const std::string& name) {
  MutexLock lock(mutex_);
  const auto found = publications_.find(name);
  if (found == publications_.end() || found->second.id.empty()) return absl::OkStatus();
  ByName changed = publications_;
  changed[name] = {.name = name, .id = {}, .directory = {}, .generation = found->second.generation};
  ENGRAM_RETURN_IF_ERROR(Write(changed));
  publications_ = std::move(changed);
  return absl::OkStatus();
}

absl::Status PublicationRecord::Write(const ByName& publications) const {
  json list = json::array();
  for (const auto& [name, publication] : publications) {
    json one = {{"name", name}, {"generation", publication.generation}};
    if (!publication.id.empty()) {
      one["id"] = publication.id;
      one["directory"] = publication.directory;
    }
    list.push_back(std::move(one));
  }
  const json whole = {{"version", kVersion}, {"publications", std::move(list)}};
  const std::string text =
      whole.dump(2, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace) + "\n";
  const std::string aside = absl::StrCat(path(), ".new");
  if (unlink(aside.c_str()) != 0 && errno != ENOENT) return PosixError("remove", aside);
  ENGRAM_ASSIGN_OR_RETURN(const FileDescriptor file,
                          OpenFile(aside, O_WRONLY | O_CREAT | O_EXCL, kMode));
  ENGRAM_RETURN_IF_ERROR(
      WriteFully(file, 0, {reinterpret_cast<const std::byte*>(text.data()), text.size()}, aside));
  if (fsync(file.get()) != 0) return PosixError("sync", aside);
  if (std::rename(aside.c_str(), path().c_str()) != 0) return PosixError("replace", path());
  return SyncDirectory(directory_);
}

namespace {

// That the set is there that was published.
absl::Status CheckIsThere(const Publication& publication) {
  const absl::StatusOr<Manifest> manifest = LoadManifest(publication.directory);
  const bool is_id = manifest.ok() && manifest->id == publication.id;
  if (is_id && manifest->name == publication.name) return absl::OkStatus();
  const std::string why = is_id ? absl::StrCat("the set of this id is called ", manifest->name)
                          : manifest.ok()
                              ? absl::StrCat("now it holds ", manifest->id)
                              : absl::StrCat("it cannot be served: ", manifest.status().message());
  const absl::StatusCode code =
      manifest.ok() ? absl::StatusCode::kFailedPrecondition : manifest.status().code();
  return absl::Status(
      code,
      absl::StrCat("table set ", publication.name, " ", publication.id, " was published from ",
                   publication.directory, " (generation ", publication.generation,
                   ", kept in --state-dir), and ", why,
                   ": put the set back there, or start engramd with --ignore-recorded, which ",
                   "serves what its flags say"));
}

}  // namespace

absl::StatusOr<std::vector<std::string>> WithPublications(
    std::vector<std::string> directories, absl::Span<const Publication> publications,
    spdlog::logger* log) {
  std::map<std::string, Publication> left;
  for (const Publication& one : publications) left[one.name] = one;
  for (std::string& directory : directories) {
    const absl::StatusOr<Manifest> manifest = LoadManifest(directory);
    if (!manifest.ok()) continue;
    const auto found = left.find(manifest->name);
    if (found == left.end()) continue;
    const Publication one = found->second;
    left.erase(found);
    // The same rows are where the flags say: no matter where they were published from.
    if (one.id == manifest->id) continue;
    ENGRAM_RETURN_IF_ERROR(CheckIsThere(one));
    const std::string of_flag = std::exchange(directory, one.directory);
    if (log == nullptr) continue;
    LogEvent(*log, spdlog::level::info, "recorded_in_place_of_flag",
             {{"table_set", one.name},
              {"table_set_id", one.id},
              {"directory", one.directory},
              {"generation", one.generation},
              {"flag_table_set_id", manifest->id},
              {"flag_directory", of_flag}},
             absl::StrCat("serving ", one.name, " ", one.id, " from ", one.directory,
                          ", as it was published (generation ", one.generation, "), in place of ",
                          manifest->id, " from ", of_flag,
                          ", as the flags say: --ignore-recorded serves that"));
  }
  for (const auto& [name, one] : left) {
    ENGRAM_RETURN_IF_ERROR(CheckIsThere(one));
    directories.push_back(one.directory);
    if (log == nullptr) continue;
    LogEvent(*log, spdlog::level::info, "recorded_beside_flags",
             {{"table_set", name},
              {"table_set_id", one.id},
              {"directory", one.directory},
              {"generation", one.generation}},
             absl::StrCat("serving ", name, " ", one.id, " from ", one.directory,
                          ", as it was published (generation ", one.generation,
                          "): --ignore-recorded serves what the flags say alone"));
  }
  return directories;
}

}  // namespace engram
