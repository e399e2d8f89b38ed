#include "client/transport/local/embedded_transport.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/asked_for.h"
#include "client/transport/batch_check.h"
#include "client/transport/local/local_gather.h"

namespace engram {
absl::StatusOr<std::unique_ptr<Transport>> EmbeddedTransport::Attach(const std::string& directory,
                                                                     absl::string_view table_set) {
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
  return Over(*std::move(set));
}

std::unique_ptr<Transport> EmbeddedTransport::Over(std::shared_ptr<const TableSet> set) {
  return std::unique_ptr<Transport>(new EmbeddedTransport(std::move(set)));
}

EmbeddedTransport::EmbeddedTransport(std::shared_ptr<const TableSet> set)
    : set_(std::move(set)),
      attached_{.manifest = set_->manifest(), .token_map = set_->addresser().token_map()},
      capabilities_{
          .name = "embedded", .lands_asynchronously = false, .max_batch_rows = kMaxLocalBatchRows} {
}

absl::StatusOr<Ticket> EmbeddedTransport::Submit(const BatchRequest& batch) {
  absl::Status status = CheckBatch(batch, set_->manifest(), kMaxLocalBatchRows);
  if (!status.ok()) return status;
  absl::StatusOr<Ticket> ticket = tickets_.Open(set_);
  if (!ticket.ok()) return ticket.status();
  status = GatherLocally(batch, set_->layers());
  if (status.ok()) return ticket;
  tickets_.Close(*ticket);
  return status;
}

TicketState EmbeddedTransport::Poll(Ticket ticket) {
  return tickets_.Find(ticket) != nullptr ? TicketState::kLanded : TicketState::kReaped;
}

absl::Status EmbeddedTransport::Wait(Ticket ticket) {
  if (tickets_.Find(ticket) != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError("the ticket was reaped, or never given out");
}

}  // namespace engram
