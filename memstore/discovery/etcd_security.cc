#include "memstore/discovery/etcd_security.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

// Longer than anybody's password.
constexpr uint64_t kMaxPasswordBytes = 4096;

}  // namespace

absl::StatusOr<std::string> ReadEtcdPassword(const std::string& path) {
  ENGRAM_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path, kMaxPasswordBytes));
  absl::string_view password = text;
  // As editors end a line.
  absl::ConsumeSuffix(&password, "\n");
  absl::ConsumeSuffix(&password, "\r");
  if (password.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " holds no password: write it there"));
  }
  return std::string(password);
}

}  // namespace engram
