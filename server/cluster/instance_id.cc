#include "server/cluster/instance_id.h"

#include <sys/random.h>

#include <array>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "memstore/base/check.h"

namespace engram {

std::string MakeInstanceId() {
  std::array<char, 16> bytes{};
  // So few bytes come at once, or not at all.
  ENGRAM_CHECK(getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
               "the kernel gives no random numbers");
  return absl::BytesToHexString(absl::string_view(bytes.data(), bytes.size()));
}

}  // namespace engram
