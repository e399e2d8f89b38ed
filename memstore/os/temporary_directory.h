// A private directory for files that nobody needs once their process is gone.
//
// Owned by one place at a time; movable. Made with mode 0700 under $TMPDIR, or /tmp. A process that
// is killed leaves it behind.
#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

class TemporaryDirectory {
 public:
  // Named `stem`, a hyphen and six letters that make it new. Errors of mkdtemp name the place and
  // $TMPDIR.
  static absl::StatusOr<TemporaryDirectory> Make(absl::string_view stem);
  TemporaryDirectory(TemporaryDirectory&& other) noexcept;
  TemporaryDirectory& operator=(TemporaryDirectory&&) = delete;
  // Removes it with all that is in it.
  ~TemporaryDirectory();

  const std::string& path() const { return path_; }

 private:
  explicit TemporaryDirectory(std::string path) : path_(std::move(path)) {}

  std::string path_;  // empty once moved away
};

// Removes `path` and all that is in it, also while others still make files there: those find that
// their directory is gone. What cannot be removed stays; thread-safe.
void RemoveTree(const std::string& path);

}  // namespace engram
