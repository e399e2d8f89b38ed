// A private directory for files that nobody needs once their process is gone.
//
// Owned by one place at a time; movable. Made with mode 0700 under $TMPDIR, or /tmp. One whose
// process was killed is removed when the next one of its stem is made. While a process lives, it
// holds a lock (flock) on a file in its directory, which tells: nothing without that file is ever
// removed, nor of another machine or an earlier start of this one, nor without locks.
#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/os/posix_file.h"

namespace engram {

class TemporaryDirectory {
 public:
  // Named `stem`, a hyphen and six letters that make it new. Errors name the place and $TMPDIR.
  static absl::StatusOr<TemporaryDirectory> Make(absl::string_view stem);
  TemporaryDirectory(TemporaryDirectory&& other) noexcept;
  TemporaryDirectory& operator=(TemporaryDirectory&&) = delete;
  // Removes it with all that is in it.
  ~TemporaryDirectory();

  const std::string& path() const { return path_; }

 private:
  TemporaryDirectory(std::string path, FileDescriptor lock)
      : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;  // empty once moved away
  FileDescriptor lock_;
};

// Removes the directory `path` and all that is in it, also while others still make files there:
// those find that theirs is gone. What cannot be removed stays, and so does all that is mounted
// at or below it, bind mounts too: it is somebody else's. Follows no symbolic links; thread-safe.
void RemoveTree(const std::string& path);

}  // namespace engram
