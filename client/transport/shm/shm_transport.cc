#include "client/transport/shm/shm_transport.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/batch_check.h"
#include "client/transport/local/local_gather.h"
#include "client/transport/shm/shm_ring.h"

namespace engram {

absl::StatusOr<std::unique_ptr<Transport>> ShmTransport::Attach(const std::string& socket_path,
                                                                const std::string& table_set,
                                                                absl::Duration timeout,
                                                                absl::string_view mode) {
  if (!mode.empty() && mode != "ring") {
    return absl::InvalidArgumentError(absl::StrCat(
        "there is no mode \"", mode, "\" of shared memory: leave it empty or say ring"));
  }
  absl::StatusOr<ForkMark> mark = ForkMark::Make();
  if (!mark.ok()) return mark.status();
  if (mode.empty()) {
    absl::StatusOr<ShmAttachment> mapped =
        AttachShm(socket_path, table_set, ShmMode::kMapped, timeout);
    if (mapped.ok()) {
      return std::unique_ptr<Transport>(new ShmTransport(*std::move(mark), *std::move(mapped)));
    }
    // The owner cannot lend the tables, or this process has no room for them.
    if (!absl::IsUnimplemented(mapped.status())) return mapped.status();
  }
  absl::StatusOr<ShmAttachment> ring = AttachShm(socket_path, table_set, ShmMode::kRing, timeout);
  if (!ring.ok()) return ring.status();
  return std::unique_ptr<Transport>(new ShmRingTransport(*std::move(mark), *std::move(ring)));
}

ShmTransport::ShmTransport(ForkMark mark, ShmAttachment attachment)
    : mark_(std::move(mark)),
      attachment_(std::move(attachment)),
      capabilities_{
          .name = "shm", .lands_asynchronously = false, .max_batch_rows = kMaxLocalBatchRows} {}

ShmTransport::~ShmTransport() {
  if (!mark_.InForkedChild()) return;
  attachment_.control.Abandon();
  for (Mapping& table : attachment_.memory) table.Abandon();
}

absl::Status ShmTransport::MayReadMapped() const {
  absl::Status status = mark_.Check();
  if (!status.ok()) return status;
  return MayBegin(attachment_.control.Read().state, attachment_.attached.manifest.id);
}

absl::Status ShmTransport::MayUseMapped() const {
  // x86 keeps loads in order; so must the compiler.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return MayFinish(attachment_.control.Read().state, attachment_.attached.manifest.id);
}

absl::StatusOr<Ticket> ShmTransport::Submit(const BatchRequest& batch) {
  absl::Status status = MayReadMapped();
  if (status.ok()) status = CheckBatch(batch, attachment_.attached.manifest, kMaxLocalBatchRows);
  if (!status.ok()) return status;
  absl::StatusOr<Ticket> ticket = tickets_.Open(landed_);
  if (!ticket.ok()) return ticket;
  status = GatherLocally(batch, attachment_.layers);
  if (status.ok()) status = MayUseMapped();
  if (status.ok()) return ticket;
  tickets_.Close(*ticket);
  return status;
}

TicketState ShmTransport::Poll(Ticket ticket) {
  if (mark_.InForkedChild()) return TicketState::kReaped;
  return tickets_.Find(ticket) != nullptr ? TicketState::kLanded : TicketState::kReaped;
}

absl::Status ShmTransport::Wait(Ticket ticket) {
  if (absl::Status status = mark_.Check(); !status.ok()) return status;
  if (tickets_.Find(ticket) != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError("the ticket was reaped, or never given out");
}

void ShmTransport::Reap(Ticket ticket) {
  if (!mark_.InForkedChild()) tickets_.Close(ticket);
}

}  // namespace engram
