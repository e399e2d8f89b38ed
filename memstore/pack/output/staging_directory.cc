#include "memstore/pack/output/staging_directory.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

// A partial directory can vanish between opening and locking it when its writer ends just then;
// that often in a row it does not.
constexpr int kLockAttempts = 100;

absl::Status OutputExists(const std::string& output) {
  return absl::AlreadyExistsError(absl::StrCat(
      output, " exists already and is never written over: choose another place or remove it"));
}

bool Exists(const std::string& path) {
  struct stat stat;
  return lstat(path.c_str(), &stat) == 0;
}

// Whether `path` still is the directory that was opened: not renamed or removed meanwhile.
bool IsAt(const FileDescriptor& directory, const std::string& path) {
  struct stat opened, there;
  return fstat(directory.get(), &opened) == 0 && lstat(path.c_str(), &there) == 0 &&
         opened.st_dev == there.st_dev && opened.st_ino == there.st_ino;
}

bool IsOwn(const FileDescriptor& directory) {
  struct stat stat;
  return fstat(directory.get(), &stat) == 0 && stat.st_uid == geteuid();
}

// The file system, or how it is mounted, has no flock.
bool LocksAreMissing() {
  return errno == ENOSYS || errno == EOPNOTSUPP || errno == ENOLCK || errno == EINVAL;
}

absl::Status MayBeWritten(const std::string& path, const std::string& output) {
  return absl::FailedPreconditionError(
      absl::StrCat("another process may be writing ", output, ": ", path,
                   " is there, and its file system has no locks (flock) to tell by; if nobody "
                   "writes it, remove ",
                   path, " and run this again"));
}

std::filesystem::path Target(const std::string& output) {
  const std::filesystem::path target = std::filesystem::path(output).lexically_normal();
  return target.has_filename() ? target : target.parent_path();  // "a/" is "a"
}

}  // namespace

absl::Status CheckStagingOutput(const std::string& output) {
  const std::string name = Target(output).filename();
  if (!name.empty() && name != "." && name != "..") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "the output \"", output, "\" names no new directory: give a path that ends in a name"));
}

// Made where there is none.
absl::StatusOr<StagingDirectory::Lock> StagingDirectory::TakeLock(const std::string& path,
                                                                  const std::string& output) {
  for (int attempt = 0; attempt < kLockAttempts; ++attempt) {
    const bool made = mkdir(path.c_str(), 0777) == 0;
    if (!made && errno == ENOENT) {
      return absl::NotFoundError(absl::StrCat("there is no directory for ", output, ": make ",
                                              std::filesystem::path(path).parent_path().string(),
                                              ", or write elsewhere"));
    }
    if (!made && errno != EEXIST) return PosixError("make the directory", path);
    absl::StatusOr<FileDescriptor> directory = OpenFile(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (absl::IsNotFound(directory.status())) continue;
    std::error_code error;
    if (!directory.ok() && std::filesystem::symlink_status(path, error).type() !=
                               std::filesystem::file_type::directory) {
      return absl::FailedPreconditionError(absl::StrCat(
          path, " is where ", output, " is put together, and is no directory: remove it"));
    }
    if (!directory.ok()) return directory.status();
    if (flock(directory->get(), LOCK_EX | LOCK_NB) != 0) {
      if (LocksAreMissing()) {
        if (made) return Lock{*std::move(directory), false};
        return MayBeWritten(path, output);
      }
      if (errno != EWOULDBLOCK) return PosixError("lock", path);
      return absl::FailedPreconditionError(absl::StrCat("another process is writing ", output,
                                                        " (it holds ", path,
                                                        "): wait for it or choose another output"));
    }
    // Who had it before may have published or removed it since it was opened.
    if (IsAt(*directory, path)) return Lock{*std::move(directory), true};
  }
  return absl::UnavailableError(absl::StrCat("cannot lock ", path, ": others keep replacing it"));
}

absl::StatusOr<StagingDirectory> StagingDirectory::Begin(const std::string& output) {
  absl::Status status = CheckStagingOutput(output);
  if (!status.ok()) return status;
  const std::filesystem::path target = Target(output);
  const std::string name = target.filename();
  const std::string parent = target.has_parent_path() ? target.parent_path().string() : ".";
  if (Exists(target)) return OutputExists(target);
  const std::string path = JoinPath(parent, absl::StrCat(".", name, ".partial"));
  absl::StatusOr<Lock> lock = TakeLock(path, target);
  if (!lock.ok()) return lock.status();
  const bool resumable = lock->has_flock && IsOwn(lock->directory);
  return StagingDirectory(target, parent, path, std::move(lock->directory), resumable);
}

absl::Status StagingDirectory::RemoveAllBut(const std::set<std::string>& names) const {
  std::error_code error;
  for (std::filesystem::directory_iterator it(path_, error), end; !error && it != end;
       it.increment(error)) {
    if (names.count(it->path().filename()) > 0) continue;
    std::filesystem::remove_all(it->path(), error);
    if (error) break;
  }
  if (!error) return absl::OkStatus();
  return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot empty ", path_));
}

StagingDirectory::StagingDirectory(StagingDirectory&& other) noexcept
    : output_(std::move(other.output_)),
      parent_(std::move(other.parent_)),
      path_(std::exchange(other.path_, "")),
      lock_(std::move(other.lock_)),
      resumable_(other.resumable_),
      stays_(other.stays_) {}

StagingDirectory::~StagingDirectory() {
  std::error_code ignored;  // what stays behind is removed by the next writer
  if (!path_.empty() && !stays_) std::filesystem::remove_all(path_, ignored);
}

absl::Status StagingDirectory::Publish() {
  absl::Status synced = SyncDirectory(path_);
  if (!synced.ok()) return synced;
  if (renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, output_.c_str(), RENAME_NOREPLACE) != 0) {
    if (errno == EEXIST) return OutputExists(output_);
    if (errno != EINVAL && errno != ENOSYS) return PosixError("publish", output_);
    // The file system can't refuse by itself; a plain rename replaces nothing but an empty
    // directory.
    if (Exists(output_)) return OutputExists(output_);
    if (rename(path_.c_str(), output_.c_str()) != 0) return PosixError("publish", output_);
  }
  path_.clear();
  absl::Status named = SyncDirectory(parent_);
  if (named.ok()) return named;
  return absl::Status(
      named.code(),
      absl::StrCat(named.message(), "; ", output_,
                   " is there and whole, but a machine that stops now may come up without it: look "
                   "after the disk, and keep it once `sync` has ended, or remove it and run this "
                   "again"));
}

}  // namespace engram
