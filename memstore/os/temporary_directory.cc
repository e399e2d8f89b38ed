#include "memstore/os/temporary_directory.h"

#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

// Between two looks another thread makes a file or so, and finds its directory gone at last.
constexpr int kRemoveAttempts = 100;

}  // namespace

absl::StatusOr<TemporaryDirectory> TemporaryDirectory::Make(absl::string_view stem) {
  const char* given = std::getenv("TMPDIR");
  const std::string parent = given == nullptr || *given == '\0' ? "/tmp" : given;
  std::string path = JoinPath(parent, absl::StrCat(stem, "-XXXXXX"));
  if (mkdtemp(path.data()) == nullptr) {
    return absl::ErrnoToStatus(
        errno, absl::StrCat("cannot make a temporary directory in ", parent,
                            given == nullptr ? " (TMPDIR names another place)" : " (TMPDIR)"));
  }
  return TemporaryDirectory(std::move(path));
}

TemporaryDirectory::TemporaryDirectory(TemporaryDirectory&& other) noexcept
    : path_(std::exchange(other.path_, std::string())) {}

TemporaryDirectory::~TemporaryDirectory() {
  if (!path_.empty()) RemoveTree(path_);
}

void RemoveTree(const std::string& path) {
  std::error_code error;
  for (int attempt = 0; attempt < kRemoveAttempts; ++attempt) {
    std::filesystem::remove_all(path, error);
    // A file came while it was emptied.
    if (error != std::errc::directory_not_empty) return;
  }
}

}  // namespace engram
