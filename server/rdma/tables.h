// A table set registered with one device so that clients read rows by themselves (READ mode).
//
// All readers share one protection domain, in which nothing but tables and their control page is
// registered, to be read alone: a key of it opens what every reader may read anyway. Registered
// when engramd starts, in pieces; never on the way of a lookup. Immutable and thread-safe.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "memstore/partition/partition.h"
#include "memstore/rdma/verbs.h"
#include "memstore/store/table_set_registry.h"
#include "server/rdma/session.h"

namespace engram {

class RdmaTables {
 public:
  // RESOURCE_EXHAUSTED when they can't be pinned.
  static absl::StatusOr<std::shared_ptr<const RdmaTables>> Register(
      std::shared_ptr<RdmaDomain> domain, ServedSet served);

  const ServedSet& served() const { return served_; }
  const std::shared_ptr<RdmaDomain>& domain() const { return domain_; }
  // A range of rows that is held, in pieces that follow each other; nothing beside it can be read.
  struct Range {
    RowRange rows;
    std::vector<RdmaRegion> pieces;
  };
  // Of the set's layers()[i], ascending.
  const std::vector<Range>& ranges(size_t i) const { return ranges_[i]; }
  const RdmaRegion& control() const { return control_; }

 private:
  RdmaTables(std::shared_ptr<RdmaDomain> domain, ServedSet served)
      : domain_(std::move(domain)), served_(std::move(served)) {}

  const std::shared_ptr<RdmaDomain> domain_;
  const ServedSet served_;
  std::vector<std::vector<Range>> ranges_;
  RdmaRegion control_;
};

// A reader's queue pair at the owner; the reads need nothing else here.
class RdmaReader {
 public:
  static absl::StatusOr<std::unique_ptr<RdmaReader>> Create(
      std::shared_ptr<const RdmaTables> tables, std::shared_ptr<RdmaChannel> channel,
      const RdmaPeer& peer, RdmaOwnerCounts* counts);
  ~RdmaReader() { counts_->clients.fetch_sub(1); }
  RdmaReader(const RdmaReader&) = delete;
  RdmaReader& operator=(const RdmaReader&) = delete;

  RdmaPeer Own() const { return pair_.Own(); }
  const RdmaTables& tables() const { return *tables_; }

 private:
  RdmaReader(std::shared_ptr<const RdmaTables> tables, RdmaOwnerCounts* counts)
      : tables_(std::move(tables)),
        lease_(tables_->served().leases, LeaseKind::kRdmaRead),
        counts_(counts) {
    counts_->clients.fetch_add(1);
  }
  const std::shared_ptr<const RdmaTables> tables_;
  const Lease lease_;
  RdmaOwnerCounts* const counts_;
  RdmaCompletions completions_;
  RdmaQueuePair pair_;
};

}  // namespace engram
