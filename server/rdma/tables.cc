#include "server/rdma/tables.h"

#include <algorithm>
#include <utility>

#include "memstore/base/status_macros.h"
#include "memstore/rdma/limits.h"

namespace engram {

absl::StatusOr<std::shared_ptr<const RdmaTables>> RdmaTables::Register(
    std::shared_ptr<RdmaDomain> domain, ServedSet served) {
  // Where a device pages on demand nothing is pinned.
  const int access =
      IBV_ACCESS_REMOTE_READ | (domain->device()->pages_on_demand() ? IBV_ACCESS_ON_DEMAND : 0);
  std::shared_ptr<RdmaTables> tables(new RdmaTables(std::move(domain), std::move(served)));
  const TableSet& set = *tables->served_.set;
  for (size_t i = 0; i < set.layers().size(); ++i) {
    std::vector<Range>& ranges = tables->ranges_.emplace_back();
    const GatherTable& table = set.layers()[i].table;
    for (const RowRange& rows : set.held()[i].ranges) {
      Range& range = ranges.emplace_back(Range{rows, {}});
      std::byte* const base = set.arena(i).data() + rows.first * table.row_bytes;
      const uint64_t bytes = rows.rows * table.row_bytes;
      for (uint64_t at = 0; at < bytes; at += kRdmaPieceBytes) {
        ENGRAM_ASSIGN_OR_RETURN(
            RdmaRegion piece,
            RdmaRegion::Register(tables->domain_,
                                 {base + at, std::min(kRdmaPieceBytes, bytes - at)}, access));
        range.pieces.push_back(std::move(piece));
      }
    }
  }
  ENGRAM_ASSIGN_OR_RETURN(tables->control_,
                          RdmaRegion::Register(tables->domain_, tables->served_.control->memory(),
                                               IBV_ACCESS_REMOTE_READ));
  return tables;
}

absl::StatusOr<std::unique_ptr<RdmaReader>> RdmaReader::Create(
    std::shared_ptr<const RdmaTables> tables, std::shared_ptr<RdmaChannel> channel,
    const RdmaPeer& peer, RdmaOwnerCounts* counts) {
  std::unique_ptr<RdmaReader> reader(new RdmaReader(std::move(tables), counts));
  const std::shared_ptr<RdmaDomain>& domain = reader->tables_->domain();
  ENGRAM_ASSIGN_OR_RETURN(reader->completions_,
                          RdmaCompletions::Create(std::move(channel), *domain->device(), 2));
  constexpr RdmaQueueSizes kSizes{.sends = 1, .receives = 1};
  ENGRAM_ASSIGN_OR_RETURN(reader->pair_, RdmaQueuePair::Create(domain, reader->completions_, kSizes,
                                                               IBV_ACCESS_REMOTE_READ));
  ENGRAM_RETURN_IF_ERROR(reader->pair_.Connect(peer));
  return reader;
}

}  // namespace engram
