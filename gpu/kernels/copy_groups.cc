#include "gpu/kernels/copy_groups.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

void CopyOnHost(const CopyGroupsArguments& a) {
  for (uint32_t i = a.groups; i-- > 0;) {
    const uint64_t from_at = a.from_at == nullptr ? i : a.from_at[i];
    std::memcpy(a.to + a.to_at[i] * a.to_stride, a.from + from_at * a.from_stride, a.group_bytes);
  }
}

}  // namespace

absl::Status EnqueueCopyGroups(const CopyGroupsArguments& copy, Stream& stream) {
  if (copy.groups == 0) return absl::OkStatus();
  if (stream.native() == nullptr) return stream.LaunchOnHost([copy] { CopyOnHost(copy); });
  const absl::string_view error = LaunchCopyGroups(copy, stream.native());
  if (error.empty()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("the hot cache: ", error));
}

}  // namespace engram
