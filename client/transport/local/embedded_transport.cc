#include "client/transport/local/embedded_transport.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/transport/asked_for.h"
#include "client/transport/batch_check.h"
#include "client/transport/local/local_gather.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// Empty: all of it.
std::vector<HeldLayer> HeldOf(const TableSet& set) {
  return set.row_source().holds_all() ? std::vector<HeldLayer>() : set.held();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> EmbeddedTransport::Attach(const std::string& directory,
                                                                     absl::string_view table_set,
                                                                     Clock& clock) {
  absl::StatusOr<std::shared_ptr<const TableSet>> set = TableSet::Load(directory, {});
  // What is wrong with the files is not wrong with the call.
  if (absl::IsFailedPrecondition(set.status()) || absl::IsInvalidArgument(set.status())) {
    return absl::DataLossError(set.status().message());
  }
  if (!set.ok()) return set.status();
  if (!IsAskedFor((*set)->manifest(), table_set)) {
    return absl::FailedPreconditionError(absl::StrCat("table set ", table_set, " is not in ",
                                                      directory, ", which holds ", (*set)->name(),
                                                      " ", (*set)->id()));
  }
  return Over(*std::move(set), clock);
}

std::unique_ptr<Transport> EmbeddedTransport::Over(std::shared_ptr<const TableSet> set,
                                                   Clock& clock) {
  return std::unique_ptr<Transport>(new EmbeddedTransport(std::move(set), clock));
}

EmbeddedTransport::EmbeddedTransport(std::shared_ptr<const TableSet> set, Clock& clock)
    : TicketedTransport({.clock = &clock, .spare_batches = kMaxOpenTickets}),
      set_(std::move(set)),
      attached_{.manifest = set_->manifest(),
                .token_map = set_->addresser().token_map(),
                .image_token_ids = {set_->addresser().image_token_ids().begin(),
                                    set_->addresser().image_token_ids().end()},
                .held = HeldOf(*set_)},
      capabilities_{.name = "embedded",
                    .lands_asynchronously = false,
                    .max_batch_rows = kMaxLocalBatchRows,
                    .lands_at_places = true} {}

absl::Status EmbeddedTransport::Prepare(const BatchRequest& batch) {
  ENGRAM_RETURN_IF_ERROR(CheckBatch(batch, set_->manifest(), capabilities_, clock()));
  ENGRAM_RETURN_IF_ERROR(CheckBatchIsHeld(batch, attached_));
  return GatherLocally(batch, set_->layers(), clock());
}

}  // namespace engram
