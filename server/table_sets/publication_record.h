// What operators published, kept over a restart: a small file in engramd's state directory
// (proto/FORMATS.md, "Publications kept by engramd").
//
// It also keeps the generation of each name, which goes on growing when a name was retired and is
// published again (generations.h gives the numbers). Thread-safe. The file is replaced as a whole
// and on disk when a change returns OK; it is one engramd's (HoldStateDirectory).
#pragma once

#include <spdlog/logger.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/base/mutex.h"

namespace engram {

// JSON readers everywhere have whole numbers up to this.
inline constexpr uint64_t kMostGeneration = uint64_t{1} << 53;

// What a name leads to.
struct Publication {
  std::string name = {};
  std::string id = {};
  std::string directory = {};  // absolute
  uint64_t generation = 0;     // 1: the first
  bool operator==(const Publication&) const = default;
};

class PublicationRecord {
 public:
  // More names than an engramd serves in its life; a file of them has some 500 KiB.
  static constexpr size_t kMostNames = 1024;
  static constexpr char kFile[] = "publications.json";

  // What is kept in `state_directory`, or nothing where there is no file yet. DATA_LOSS: it is not
  // such a file; FAILED_PRECONDITION: a newer engramd's. Both name the cure.
  static absl::StatusOr<std::unique_ptr<PublicationRecord>> Open(
      const std::string& state_directory);
  // For an engramd that is not to serve what is kept, whatever that is: no name leads anywhere, and
  // the next publication replaces the file. Generations go on where it can be read.
  static std::unique_ptr<PublicationRecord> OpenIgnoring(const std::string& state_directory);

  // Of names that lead to a set, by name.
  std::vector<Publication> List() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Of names that lead nowhere as well: those have no id and no directory.
  std::vector<Publication> All() const ABSL_LOCKS_EXCLUDED(mutex_);
  // The name leads to the set from now on. RESOURCE_EXHAUSTED: too many names; else the system's
  // error. What is kept is as before then.
  absl::Status Publish(const std::string& name, const std::string& id, const std::string& directory,
                       uint64_t generation) ABSL_LOCKS_EXCLUDED(mutex_);
  // The name leads nowhere; OK where it did not. Errors as Publish's.
  absl::Status Retire(const std::string& name) ABSL_LOCKS_EXCLUDED(mutex_);
  std::string path() const;

 private:
  using ByName = std::map<std::string, Publication>;  // an empty id: it leads nowhere

  explicit PublicationRecord(std::string directory) : directory_(std::move(directory)) {}
  static absl::StatusOr<ByName> Parse(const std::string& text);
  absl::Status Write(const ByName& publications) const;

  const std::string directory_;
  mutable Mutex mutex_;
  ByName publications_ ABSL_GUARDED_BY(mutex_);
};

// The directories to serve: those of flags, where a set is replaced that has the name of a
// publication, and the publications of other names after them. What is replaced is logged with both
// ids (a null `log`: nowhere). NOT_FOUND, FAILED_PRECONDITION: a publication's directory is gone or
// holds another set; they name the cure. Directories of flags that cannot be read stay as they are.
absl::StatusOr<std::vector<std::string>> WithPublications(
    std::vector<std::string> directories, absl::Span<const Publication> publications,
    spdlog::logger* log);

}  // namespace engram
