#include "memstore/store/row_source.h"

#include <algorithm>

#include "memstore/partition/held_check.h"

namespace engram {
namespace {

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
