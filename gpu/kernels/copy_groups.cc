#include "gpu/kernels/copy_groups.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

void CopyOnHost(const CopyGroupsArguments& a) {
  for (uint32_t i = a.groups; i-- > 0;) {
    std::memcpy(a.to + a.to_at[i] * a.to_stride, a.from + a.from_at[i] * a.from_stride,
                uint64_t{a.rows[i]} * a.row_bytes);
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
