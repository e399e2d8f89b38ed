#include "memstore/rdma/memlock.h"

#include <sys/resource.h>

#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace engram {
namespace {

constexpr int kCapIpcLock = 14;

bool MayPinWithoutLimit() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    absl::string_view text = line;
    uint64_t capabilities = 0;
    if (!absl::ConsumePrefix(&text, "CapEff:")) continue;
    return absl::SimpleHexAtoi(text, &capabilities) && ((capabilities >> kCapIpcLock) & 1) != 0;
  }
  return false;
}

}  // namespace

absl::Status CheckMemlockLimit(uint64_t bytes, uint64_t limit_bytes) {
  if (bytes <= limit_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "RDMA pins ", bytes, " bytes here, and RLIMIT_MEMLOCK allows ", limit_bytes,
      ": raise it (`ulimit -l unlimited`, LimitMEMLOCK=infinity in the systemd unit, `memlock` in "
      "/etc/security/limits.conf) or give the process CAP_IPC_LOCK"));
}

absl::Status CheckMemlock(uint64_t bytes) {
  rlimit limit{};
  if (MayPinWithoutLimit() || getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return absl::OkStatus();
  if (limit.rlim_cur < limit.rlim_max) {
    const rlimit raised{limit.rlim_max, limit.rlim_max};
    if (setrlimit(RLIMIT_MEMLOCK, &raised) == 0) limit = raised;
  }
  if (limit.rlim_cur == RLIM_INFINITY) return absl::OkStatus();
  return CheckMemlockLimit(bytes, limit.rlim_cur);
}

}  // namespace engram
