#include "memstore/store/row_source.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

bool HoldsAll(const HeldLayer& layer) {
  return layer.ranges.size() == 1 && layer.ranges[0].first == 0 &&
         layer.ranges[0].rows == layer.table_rows;
}

std::vector<HeldLayer> WholeLayers(const std::vector<GatherTable>& tables) {
  std::vector<HeldLayer> held;
  for (const GatherTable& table : tables) {
    held.push_back({.table_rows = table.rows, .ranges = {{.first = 0, .rows = table.rows}}});
  }
  return held;
}

}  // namespace

RowSource::RowSource(std::vector<HeldLayer> held, bool resident)
    : held_(std::move(held)),
      holds_all_(std::all_of(held_.begin(), held_.end(), HoldsAll)),
      resident_(resident) {}

template <typename Id>
absl::Status RowSource::CheckHeld(size_t layer, absl::Span<const Id> ids) const {
  const HeldLayer& held = held_[layer];
  if (HoldsAll(held)) return absl::OkStatus();
  for (size_t i = 0; i < ids.size(); ++i) {
    if (Holds(held, ids[i])) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("row ", ids[i], " (index ", i, ") is not held here, of the layer's ",
                     held.table_rows, " rows these are: ", ToString(held), ": ask who holds it"));
  }
  return absl::OkStatus();
}

template absl::Status RowSource::CheckHeld(size_t, absl::Span<const uint32_t>) const;
template absl::Status RowSource::CheckHeld(size_t, absl::Span<const uint64_t>) const;

ResidentRows::ResidentRows(std::vector<GatherTable> tables)
    : RowSource(WholeLayers(tables), /*resident=*/true), tables_(std::move(tables)) {}

ResidentRows::ResidentRows(std::vector<GatherTable> tables, std::vector<HeldLayer> held)
    : RowSource(std::move(held), /*resident=*/true), tables_(std::move(tables)) {}

absl::StatusOr<RowSource::When> ResidentRows::Begin(RowRequest& request,
                                                    const std::shared_ptr<Executor>&, Done) const {
  request.present.clear();
  for (const WantedRun& run : request.wanted) {
    request.present.push_back({tables_[run.layer], run.ids32, run.ids64});
  }
  return When::kNow;
}

}  // namespace engram
