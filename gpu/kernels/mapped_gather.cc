#include "gpu/kernels/mapped_gather.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "gpu/kernels/mapped_gather_cuda.h"

namespace engram {
namespace {

// More blocks than there are rows to begin with would only wait for each other.
constexpr uint64_t kRowsABlock = 16;

GatherRows RowsOf(const MappedGather& gather) {
  return {.held = {.first = gather.table.first_row, .rows = gather.table.rows},
          .columns = gather.columns,
          .column_count = gather.column_count};
}

bool AreOfTheirColumns(const MappedGather& gather) {
  const GatherRows from = RowsOf(gather);
  for (uint32_t i = 0; i < gather.count; ++i) {
    if (!IsGoodRow(from, gather.ids[i], i)) return false;
  }
  return true;
}

void GatherOnHost(const MappedGather& gather) {
  const absl::Span<const RowId> ids(gather.ids, gather.count);
  const bool good =
      gather.columns == nullptr ? CheckRowIds(gather.table, ids).ok() : AreOfTheirColumns(gather);
  if (!good) {
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
                          .from = RowsOf(gather),
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
