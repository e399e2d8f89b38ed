// The store in the caller's own process: Submit gathers, and the ticket it returns has LANDED.
//
// For one process that needs the table alone, and as the reference for the other transports. The
// caller's thread does the work: about the time of the memory reads. Contract: transport.h.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/transport/ticket_table.h"
#include "client/transport/transport.h"
#include "memstore/store/table_set.h"

namespace engram {

class EmbeddedTransport : public Transport {
 public:
  // Loads and verifies the table set in `directory` (TableSet::Load has the errors; a token map
  // that is not the manifest's is DATA_LOSS). `table_set`: empty, or its id or name
  // (FAILED_PRECONDITION when it is another).
  static absl::StatusOr<std::unique_ptr<Transport>> Attach(const std::string& directory,
                                                           absl::string_view table_set);
  // Over a set that is loaded already.
  static std::unique_ptr<Transport> Over(std::shared_ptr<const TableSet> set);
  ~EmbeddedTransport() override = default;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return attached_; }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }
  const GatherTable* MappedTable(size_t index) const override {
    return &set_->layers()[index].table;
  }
  absl::StatusOr<Ticket> Submit(const BatchRequest& batch) override;
  TicketState Poll(Ticket ticket) override;
  absl::Status Wait(Ticket ticket) override;
  absl::Status WaitLayer(Ticket ticket, size_t) override { return Wait(ticket); }
  void Cancel(Ticket) override {}
  void Reap(Ticket ticket) override { tickets_.Close(ticket); }

 private:
  explicit EmbeddedTransport(std::shared_ptr<const TableSet> set);

  const std::shared_ptr<const TableSet> set_;
  const AttachedTableSet attached_;
  const Capabilities capabilities_;
  // A landed batch needs no memory of its own: each ticket holds the set.
  TicketTable<const TableSet> tickets_;
};

}  // namespace engram
