#include "memstore/os/temporary_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <system_error>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace engram {
namespace {

namespace fs = std::filesystem;

// Between two looks another thread makes a file or so, and finds its directory gone at last.
constexpr int kRemoveAttempts = 100;
// Whoever cleans up may take a directory in the moment before it is locked; that often in a row
// nobody does.
constexpr int kMakeAttempts = 100;
// In each directory, with the id of the machine's start: its owner holds it locked, which is known
// on this machine alone where a file system has locks of each. By no chance in somebody else's.
constexpr char kOwnerFile[] = ".engram-temporary-directory";
constexpr char kBootIdFile[] = "/proc/sys/kernel/random/boot_id";
constexpr absl::string_view kUnique = "XXXXXX";  // mkdtemp's

std::string Text(const FileDescriptor& file) {
  char bytes[64];  // an id has 37
  const ssize_t got = pread(file.get(), bytes, sizeof(bytes), 0);
  return got <= 0 ? std::string() : std::string(bytes, static_cast<size_t>(got));
}

// Empty where it is not told.
std::string BootId() { return Text(FileDescriptor(open(kBootIdFile, O_RDONLY | O_CLOEXEC))); }

absl::Status CannotMake(const std::string& parent) {
  return absl::ErrnoToStatus(
      errno, absl::StrCat(
                 "cannot make a temporary directory in ", parent,
                 std::getenv("TMPDIR") == nullptr ? " (TMPDIR names another place)" : " (TMPDIR)"));
}

// The lock of a directory that was just made; nothing where somebody has taken it for left over.
absl::StatusOr<std::optional<FileDescriptor>> Own(const std::string& path,
                                                  const std::string& parent) {
  const std::string file = JoinPath(path, kOwnerFile);
  FileDescriptor lock(open(file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!lock.is_open()) return CannotMake(parent);
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return std::nullopt;
  struct stat stat;
  if (fstat(lock.get(), &stat) != 0 || stat.st_nlink == 0) return std::nullopt;
  const std::string id = BootId();
  const absl::Status written =
      WriteFully(lock, 0, {reinterpret_cast<const std::byte*>(id.data()), id.size()}, file);
  if (!written.ok()) return written;
  return lock;
}

bool IsOfStem(absl::string_view name, absl::string_view stem) {
  return absl::ConsumePrefix(&name, stem) && absl::ConsumePrefix(&name, "-") &&
         name.size() == kUnique.size() && absl::c_all_of(name, absl::ascii_isalnum);
}

// Removes it where it is this user's and its owner is gone, which a lock tells that can be taken.
// Whatever is in doubt stays.
void RemoveIfLeft(const std::string& path) {
  const FileDescriptor directory(
      open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat opened, there;
  if (!directory.is_open() || fstat(directory.get(), &opened) != 0 || opened.st_uid != geteuid()) {
    return;
  }
  const FileDescriptor lock(openat(directory.get(), kOwnerFile, O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!lock.is_open() || flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return;
  const std::string id = BootId();
  if (id.empty() || Text(lock) != id) return;
  // Another one that cleaned up may have been here, and somebody have taken the name since.
  if (lstat(path.c_str(), &there) != 0 || opened.st_dev != there.st_dev ||
      opened.st_ino != there.st_ino) {
    return;
  }
  RemoveTree(path);
}

void RemoveLeft(const std::string& parent, absl::string_view stem) {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator it(parent, error), end; !error && it != end; it.increment(error)) {
    if (IsOfStem(it->path().filename().string(), stem)) paths.push_back(it->path());
  }
  for (const std::string& path : paths) RemoveIfLeft(path);
}

}  // namespace

absl::StatusOr<TemporaryDirectory> TemporaryDirectory::Make(absl::string_view stem) {
  const char* given = std::getenv("TMPDIR");
  const std::string parent = given == nullptr || *given == '\0' ? "/tmp" : given;
  RemoveLeft(parent, stem);
  for (int attempt = 0; attempt < kMakeAttempts; ++attempt) {
    std::string path = JoinPath(parent, absl::StrCat(stem, "-", kUnique));
    if (mkdtemp(path.data()) == nullptr) return CannotMake(parent);
    absl::StatusOr<std::optional<FileDescriptor>> lock = Own(path, parent);
    if (!lock.ok()) {
      RemoveTree(path);
      return lock.status();
    }
    if (lock->has_value()) return TemporaryDirectory(std::move(path), **std::move(lock));
    RemoveTree(path);  // whoever took it may have left it
  }
  return absl::UnavailableError(
      absl::StrCat("cannot make a temporary directory in ", parent, ": others keep removing it"));
}

TemporaryDirectory::TemporaryDirectory(TemporaryDirectory&& other) noexcept
    : path_(std::exchange(other.path_, std::string())), lock_(std::move(other.lock_)) {}

TemporaryDirectory::~TemporaryDirectory() {
  if (!path_.empty()) RemoveTree(path_);
}

namespace {

// Which mount a file was opened through. One file system may be mounted in several places, as bind
// mounts do, so its device tells nothing; where the kernel (before 5.8) does not know better, that.
struct Mount {
  uint64_t id = 0;
  uint64_t device = 0;
  bool operator==(const Mount&) const = default;
};

std::optional<Mount> MountOf(const FileDescriptor& file) {
  struct statx found {};
  if (statx(file.get(), "", AT_EMPTY_PATH, STATX_MNT_ID, &found) != 0) return std::nullopt;
  return Mount{.id = (found.stx_mask & STATX_MNT_ID) != 0 ? found.stx_mnt_id : 0,
               .device = makedev(found.stx_dev_major, found.stx_dev_minor)};
}

std::vector<std::string> NamesIn(const FileDescriptor& directory) {
  std::vector<std::string> names;
  // One of its own: what reads it closes it.
  const int own = openat(directory.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (own < 0) return names;
  DIR* const entries = fdopendir(own);
  if (entries == nullptr) {
    close(own);
    return names;
  }
  // NOLINTNEXTLINE(concurrency-mt-unsafe): of a stream that nobody else has
  while (const dirent* const entry = readdir(entries)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  closedir(entries);
  return names;
}

// False where something stays for good. A directory that somebody puts files into meanwhile is not
// for good.
bool EmptyOut(const FileDescriptor& directory, const Mount& mount) {
  bool empty = true;
  for (const std::string& name : NamesIn(directory)) {
    if (unlinkat(directory.get(), name.c_str(), 0) == 0 || errno == ENOENT) continue;
    const FileDescriptor inner(
        openat(directory.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!inner.is_open() || MountOf(inner) != mount || !EmptyOut(inner, mount)) {
      empty = false;
    } else if (unlinkat(directory.get(), name.c_str(), AT_REMOVEDIR) != 0) {
      empty = empty && (errno == ENOENT || errno == ENOTEMPTY);
    }
  }
  return empty;
}

}  // namespace

void RemoveTree(const std::string& path) {
  const FileDescriptor directory(
      open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory.is_open()) return;
  const std::optional<Mount> mount = MountOf(directory);
  // Its own mount, if it is one: ".." leads out of it.
  const FileDescriptor parent(openat(directory.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!mount || !parent.is_open() || MountOf(parent) != mount) return;
  for (int attempt = 0; attempt < kRemoveAttempts; ++attempt) {
    // A file came while it was emptied: once more.
    if (!EmptyOut(directory, *mount) || rmdir(path.c_str()) == 0 || errno != ENOTEMPTY) return;
  }
}

}  // namespace engram
