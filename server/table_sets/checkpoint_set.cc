#include "server/table_sets/checkpoint_set.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "memstore/addressing/families.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/pack/pack_checkpoint.h"
#include "memstore/pack/pack_options.h"
#include "server/base/log.h"

namespace engram {
namespace {

namespace fs = std::filesystem;

// In the directory where it is kept; by no chance a model's own name.
constexpr char kSetName[] = "linked-checkpoint";
// Between lines that say how far it is.
constexpr absl::Duration kLineInterval = absl::Seconds(2);

PackOptions OptionsOf(const CheckpointSource& source, const std::string& directory) {
  PackOptions options;
  options.output = JoinPath(directory, kSetName);
  options.rows_per_head = source.rows_per_head;
  options.token_map_file = source.token_map;
  options.link = true;
  return options;
}

// Links resolved as far as the path is there; without a slash at its end.
absl::StatusOr<fs::path> Resolved(const std::string& path) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  fs::path resolved = error ? fs::path() : fs::weakly_canonical(absolute, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot look at ", path));
  return resolved.has_filename() ? resolved : resolved.parent_path();
}

// Both resolved. A directory lies in itself.
bool LiesIn(const fs::path& inner, const fs::path& outer) {
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

// Whether a message names a flag, as a word of its own: a path may have the same letters in it
// (models--gguf-org--x).
bool NamesFlag(absl::string_view message, absl::string_view flag) {
  for (size_t at = message.find(flag); at != absl::string_view::npos;
       at = message.find(flag, at + 1)) {
    if (at == 0 || absl::StrContains(" (\"`", message[at - 1])) return true;
  }
  return false;
}

// Errors of packing name its flags, and engramd has few of them.
absl::Status WithWhoseFlags(const absl::Status& status) {
  if (!absl::IsInvalidArgument(status) && !absl::IsFailedPrecondition(status)) return status;
  for (const absl::string_view flag :
       {"--gguf", "--reset-token-id", "--use-stored-constants", "--encoding"}) {
    if (!NamesFlag(status.message(), flag)) continue;
    return absl::Status(status.code(),
                        absl::StrCat(status.message(), " (flags of `engram pack`: make the set ",
                                     "with it and serve it with --table-set)"));
  }
  return status;
}

}  // namespace

absl::Status CheckCheckpointPlace(const CheckpointSource& source, const std::string& directory) {
  if (directory.empty()) return absl::OkStatus();
  const std::string set = JoinPath(directory, kSetName);
  ENGRAM_ASSIGN_OR_RETURN(const fs::path model, Resolved(source.checkpoint));
  ENGRAM_ASSIGN_OR_RETURN(const fs::path state, Resolved(directory));
  ENGRAM_ASSIGN_OR_RETURN(const fs::path kept, Resolved(set));
  if (LiesIn(model, kept)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--checkpoint ", source.checkpoint, " lies in ", set,
                     ", where --state-dir keeps the links to it and replaces what is there: give ",
                     "the model's own directory, and move the model where it is in that place"));
  }
  if (LiesIn(state, model) || LiesIn(kept, model)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--state-dir ", directory, " lies in --checkpoint ", source.checkpoint,
                     ", which engramd only reads: give a directory outside the model's"));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> CheckCheckpointSource(const CheckpointSource& source) {
  ENGRAM_ASSIGN_OR_RETURN(const Family* const family, FindFamily(source.family));
  absl::StatusOr<uint64_t> bytes =
      CheckCheckpoint(*family, source.checkpoint, OptionsOf(source, "."));
  if (!bytes.ok()) return WithWhoseFlags(bytes.status());
  return bytes;
}

absl::StatusOr<FileDescriptor> HoldStateDirectory(const std::string& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot make ", directory));
  ENGRAM_ASSIGN_OR_RETURN(FileDescriptor held, OpenFile(directory, O_RDONLY | O_DIRECTORY));
  if (flock(held.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    return absl::FailedPreconditionError(
        absl::StrCat("another engramd keeps its files in --state-dir ", directory,
                     ": stop it, or give each a directory of its own"));
  }
  return held;
}

absl::Status CheckStateDirectory(const std::string& directory) {
  const auto unusable = [&](absl::string_view why,
                            absl::string_view fix =
                                "make it, or give one that engramd may read and write to") {
    return absl::UnavailableError(absl::StrCat("--state-dir ", directory, ": ", why, "; ", fix));
  };
  std::error_code error;
  fs::path there = fs::absolute(directory, error);
  fs::file_status status = error ? fs::file_status() : fs::status(there, error);
  const bool is_there = fs::exists(status);
  // What is missing is made, in the first that is there.
  while (!fs::exists(status) && there.has_relative_path()) {
    if (status.type() != fs::file_type::not_found) return unusable(error.message());
    there = there.parent_path();
    status = fs::status(there, error);
  }
  if (!fs::is_directory(status)) {
    return unusable(absl::StrCat(there.string(), " is a file"), "give a directory");
  }
  if (access(there.c_str(), W_OK | X_OK | (is_there ? R_OK : 0)) == 0) return absl::OkStatus();
  return unusable(absl::StrCat(there.string(), ": ", strerrordesc_np(errno)));
}

absl::StatusOr<std::string> LinkCheckpointSet(const CheckpointSource& source,
                                              const std::string& directory, const LifeCycle& life,
                                              spdlog::logger& log, const Clock& clock) {
  ENGRAM_ASSIGN_OR_RETURN(const Family* const family, FindFamily(source.family));
  PackOptions options = OptionsOf(source, directory);
  const std::string set = options.output;
  log.info("looking for links to {}", source.checkpoint);
  options.writer.on_begin = [&](const std::string&, bool) {
    log.info("linking {}: its rows are read once, and stay where they are", source.checkpoint);
  };
  options.on_note = [&log](const std::string& line) {
    absl::string_view note = line;
    if (absl::ConsumePrefix(&note, "note: ")) {
      log.info("{}", std::string(note));
    } else {
      absl::ConsumePrefix(&note, "warning: ");
      log.warn("{}", std::string(note));
    }
  };
  const MonotonicTime begin = clock.Now();
  MonotonicTime next_line = clock.After(kLineInterval);
  options.on_progress = [&](uint64_t done, uint64_t total) {
    if (clock.Now() < next_line || total == 0) return;
    next_line = clock.After(kLineInterval);
    const std::string line = absl::StrFormat("linking %s: %d %% of %.2f GB read", source.checkpoint,
                                             done * 100 / total, static_cast<double>(total) / 1e9);
    LogEvent(log, spdlog::level::info, "link_progress",
             {{"directory", source.checkpoint}, {"bytes_done", done}, {"bytes", total}}, line);
    life.SetStatusLine(line);
  };
  absl::StatusOr<LinkedSet> linked =
      FindOrLinkCheckpoint(*family, source.checkpoint, std::move(options));
  if (!linked.ok()) {
    const absl::Status status = WithWhoseFlags(linked.status());
    return absl::Status(status.code(),
                        absl::StrCat("checkpoint ", source.checkpoint, ": ", status.message()));
  }
  const double seconds = absl::ToDoubleSeconds(clock.Now() - begin);
  LogEvent(log, spdlog::level::info, "linked",
           {{"table_set", linked->manifest.name},
            {"table_set_id", linked->manifest.id},
            {"directory", source.checkpoint},
            {"kept", linked->kept},
            {"seconds", seconds}},
           absl::StrFormat("%s %s to %s: %s %s, in %.1f s", source.checkpoint,
                           linked->kept ? "is unchanged since it was linked" : "is linked", set,
                           linked->manifest.name, linked->manifest.id, seconds));
  return set;
}

absl::Status WithFixOfKeptSet(const absl::Status& status, const std::string& set) {
  if (!absl::IsDataLoss(status)) return status;
  return absl::Status(
      status.code(),
      absl::StrCat(status.message(), ". engramd made this set by itself: remove ", set,
                   " and start engramd again, which links the checkpoint as ", "it is then"));
}

}  // namespace engram
