#include "server/cluster/instance_id.h"

#include <cstdint>
#include <random>

#include "absl/strings/str_format.h"

namespace engram {

std::string NewInstanceId() {
  std::random_device random;  // the kernel's
  const auto draw = [&random] { return uint64_t{random()} << 32 | random(); };
  return absl::StrFormat("%016x%016x", draw(), draw());
}

}  // namespace engram
