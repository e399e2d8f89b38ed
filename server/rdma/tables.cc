#include "server/rdma/tables.h"

#include <algorithm>
#include <utility>

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
    std::vector<RdmaRegion>& pieces = tables->pieces_.emplace_back();
    std::byte* const base = set.arena(i).data();
    const uint64_t bytes = set.arena(i).bytes();
    for (uint64_t at = 0; at < bytes; at += kRdmaPieceBytes) {
      absl::StatusOr<RdmaRegion> piece = RdmaRegion::Register(
          tables->domain_, {base + at, std::min(kRdmaPieceBytes, bytes - at)}, access);
      if (!piece.ok()) return piece.status();
      pieces.push_back(*std::move(piece));
    }
  }
  absl::StatusOr<RdmaRegion> control = RdmaRegion::Register(
      tables->domain_, tables->served_.control->memory(), IBV_ACCESS_REMOTE_READ);
  if (!control.ok()) return control.status();
  tables->control_ = *std::move(control);
  return tables;
}

absl::StatusOr<std::unique_ptr<RdmaReader>> RdmaReader::Create(
    std::shared_ptr<const RdmaTables> tables, std::shared_ptr<RdmaChannel> channel,
    const RdmaPeer& peer, RdmaOwnerCounts* counts) {
  std::unique_ptr<RdmaReader> reader(new RdmaReader(std::move(tables), counts));
  const std::shared_ptr<RdmaDomain>& domain = reader->tables_->domain();
  absl::StatusOr<RdmaCompletions> completions =
      RdmaCompletions::Create(std::move(channel), *domain->device(), 2);
  if (!completions.ok()) return completions.status();
  reader->completions_ = *std::move(completions);
  absl::StatusOr<RdmaQueuePair> pair = RdmaQueuePair::Create(
      domain, reader->completions_, {.sends = 1, .receives = 1}, IBV_ACCESS_REMOTE_READ);
  if (!pair.ok()) return pair.status();
  reader->pair_ = *std::move(pair);
  if (absl::Status status = reader->pair_.Connect(peer); !status.ok()) return status;
  return reader;
}

}  // namespace engram
