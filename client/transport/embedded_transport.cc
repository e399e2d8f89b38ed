#include "client/transport/embedded_transport.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/batch_check.h"

namespace engram {
namespace {

// A batch runs in the caller's thread, so this bounds a call, not memory: a minute of gathering.
constexpr uint64_t kMaxEmbeddedBatchRows = uint64_t{1} << 30;

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> EmbeddedTransport::Attach(const std::string& directory,
                                                                     absl::string_view table_set) {
  absl::StatusOr<std::shared_ptr<const TableSet>> set = TableSet::Load(directory, {});
  // What is wrong with the files is not wrong with the call.
  if (absl::IsFailedPrecondition(set.status()) || absl::IsInvalidArgument(set.status())) {
    return absl::DataLossError(set.status().message());
  }
  if (!set.ok()) return set.status();
  if (!table_set.empty() && table_set != (*set)->id() && table_set != (*set)->name()) {
    return absl::FailedPreconditionError(absl::StrCat("table set ", table_set, " is not in ",
                                                      directory, ", which holds ", (*set)->name(),
                                                      " ", (*set)->id()));
  }
  return Over(*std::move(set));
}

std::unique_ptr<Transport> EmbeddedTransport::Over(std::shared_ptr<const TableSet> set) {
  return std::unique_ptr<Transport>(new EmbeddedTransport(std::move(set)));
}

EmbeddedTransport::EmbeddedTransport(std::shared_ptr<const TableSet> set)
    : set_(std::move(set)),
      attached_{.manifest = set_->manifest(), .token_map = set_->addresser().token_map()},
      capabilities_{.name = "embedded",
                    .lands_asynchronously = false,
                    .max_batch_rows = kMaxEmbeddedBatchRows} {}

absl::StatusOr<Ticket> EmbeddedTransport::Submit(const BatchRequest& batch) {
  absl::Status status = CheckBatch(batch, set_->manifest(), kMaxEmbeddedBatchRows);
  if (!status.ok()) return status;
  absl::StatusOr<Ticket> ticket = tickets_.Open(set_);
  if (!ticket.ok()) return ticket.status();
  for (const LayerRequest& request : batch.layers) {
    Gather<RowId>(set_->FindLayer(request.layer)->table, request.row_ids, request.landing);
  }
  return ticket;
}

TicketState EmbeddedTransport::Poll(Ticket ticket) {
  return tickets_.Find(ticket) != nullptr ? TicketState::kLanded : TicketState::kReaped;
}

absl::Status EmbeddedTransport::Wait(Ticket ticket) {
  if (tickets_.Find(ticket) != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError("the ticket was reaped, or never given out");
}

}  // namespace engram
