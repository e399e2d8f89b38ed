// A directory that appears at its place whole or not at all.
//
// It is filled at PARENT/.NAME.partial and renamed to PARENT/NAME. The partial directory is locked
// (flock) while it is filled: a second writer of the same output is refused, and whoever finds what
// a killed writer left may go on with it. Where the file system has no locks (Lustre without
// -o flock, some of NFS and FUSE), making the directory is the lock: whoever finds it there is
// refused, also after a kill. Used by one thread; movable, not copyable.
#pragma once

#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/os/posix_file.h"

namespace engram {

// INVALID_ARGUMENT when `output` can't be the path of a new directory: empty, or ending in "." or
// "..". Looks at the text alone.
absl::Status CheckStagingOutput(const std::string& output);

class StagingDirectory {
 public:
  // Errors of CheckStagingOutput; ALREADY_EXISTS when there is something at `output`; NOT_FOUND
  // when its parent isn't there; FAILED_PRECONDITION when another process is writing it, or may be.
  static absl::StatusOr<StagingDirectory> Begin(const std::string& output);
  StagingDirectory(StagingDirectory&& other) noexcept;
  StagingDirectory& operator=(StagingDirectory&&) = delete;
  // Removes what is not published, unless it stays.
  ~StagingDirectory();

  // Where to write until it is published. After Begin it holds what a killed writer left:
  // RemoveAllBut comes first.
  const std::string& path() const { return path_; }
  // Whether a later writer could go on with what stays here: there are locks to tell it by, and the
  // directory is this user's own.
  bool resumable() const { return resumable_; }
  // Removes everything in it but the entries of these names.
  absl::Status RemoveAllBut(const std::set<std::string>& names) const;
  // Whether it stays when this ends without Publish: false at first, and where it is not resumable.
  void set_stays(bool stays) { stays_ = stays && resumable_; }
  bool stays() const { return stays_; }
  // Has all of it on disk, then at `output`, where nothing may have appeared meanwhile. When only
  // the name is not known to be on disk in the end, the error says that `output` is there.
  absl::Status Publish();

 private:
  struct Lock {
    FileDescriptor directory;
    bool has_flock = false;
  };
  static absl::StatusOr<Lock> TakeLock(const std::string& path, const std::string& output);

  StagingDirectory(std::string output, std::string parent, std::string path, FileDescriptor lock,
                   bool resumable)
      : output_(std::move(output)),
        parent_(std::move(parent)),
        path_(std::move(path)),
        lock_(std::move(lock)),
        resumable_(resumable) {}

  std::string output_;
  std::string parent_;
  std::string path_;  // empty once published
  FileDescriptor lock_;
  bool resumable_ = false;
  bool stays_ = false;
};

}  // namespace engram
