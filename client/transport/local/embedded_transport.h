// The store in the caller's own process: Submit gathers, and the ticket it returns has LANDED.
//
// For one process that needs the table alone, and as the reference for the other transports. The
// caller's thread does the work: about the time of the memory reads. Contract: transport.h.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/transport/ticketed_transport.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"
#include "memstore/store/table_set.h"

namespace engram {

class EmbeddedTransport final : public TicketedTransport {
 public:
  // Loads and verifies the table set in `directory` (TableSet::Load has the errors; a token map
  // that is not the manifest's is DATA_LOSS). `table_set`: empty, or its id or name
  // (FAILED_PRECONDITION when it is another).
  static absl::StatusOr<std::unique_ptr<Transport>> Attach(const std::string& directory,
                                                           absl::string_view table_set,
                                                           Clock& clock = RealClock());
  // Over a set that is loaded already.
  static std::unique_ptr<Transport> Over(std::shared_ptr<const TableSet> set,
                                         Clock& clock = RealClock());
  ~EmbeddedTransport() override { ReapAll(); }

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return attached_; }
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }
  const GatherTable* MappedTable(size_t index) const override {
    return attached_.held.empty() ? &set_->layers()[index].table : nullptr;
  }

 private:
  EmbeddedTransport(std::shared_ptr<const TableSet> set, Clock& clock);
  absl::Status Prepare(const BatchRequest& batch) override;

  const std::shared_ptr<const TableSet> set_;
  const AttachedTableSet attached_;
  const Capabilities capabilities_;
};

}  // namespace engram
