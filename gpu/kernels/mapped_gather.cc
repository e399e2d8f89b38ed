#include "gpu/kernels/mapped_gather.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "gpu/kernels/mapped_gather_cuda.h"

namespace engram {
namespace {

// More blocks than there are rows to begin with would only wait for each other.
constexpr uint64_t kRowsABlock = 16;

void GatherOnHost(const MappedGather& gather) {
  const absl::Span<const RowId> ids(gather.ids, gather.count);
  if (!CheckRowIds(gather.table, ids).ok()) {
    *gather.bad_ids = 1;
    return;
  }
  Gather(gather.table, ids, {.data = gather.rows});
}

}  // namespace

absl::Status EnqueueMappedGather(const MappedGather& gather, uint32_t multiprocessors,
                                 Stream& stream) {
  if (stream.native() == nullptr) {
    return stream.LaunchOnHost([gather] { GatherOnHost(gather); });
  }
  const uint64_t wanted = (gather.count + kRowsABlock - 1) / kRowsABlock;
  const uint64_t blocks = std::min<uint64_t>(std::max<uint32_t>(multiprocessors, 1), wanted);
  const absl::string_view error =
      LaunchMappedGather({.table = gather.table.base,
                          .table_rows = gather.table.rows,
                          .row_bytes = gather.table.row_bytes,
                          .ids = gather.ids,
                          .count = gather.count,
                          .rows = gather.rows,
                          .bad_ids = gather.bad_ids},
                         static_cast<uint32_t>(blocks), stream.native());
  if (error.empty()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("gathering from mapped memory: ", error));
}

}  // namespace engram
