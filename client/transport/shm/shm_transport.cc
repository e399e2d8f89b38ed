#include "client/transport/shm/shm_transport.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/batch_check.h"
#include "client/transport/local/local_gather.h"
#include "client/transport/shm/shm_ring.h"
#include "memstore/base/status_macros.h"

namespace engram {

absl::StatusOr<std::unique_ptr<Transport>> ShmTransport::Attach(const std::string& socket_path,
                                                                const std::string& table_set,
                                                                absl::Duration timeout,
                                                                absl::string_view mode,
                                                                Clock& clock) {
  if (!mode.empty() && mode != "ring") {
    return absl::InvalidArgumentError(absl::StrCat(
        "there is no mode \"", mode, "\" of shared memory: leave it empty or say ring"));
  }
  ENGRAM_ASSIGN_OR_RETURN(ForkMark mark, ForkMark::Make());
  if (mode.empty()) {
    absl::StatusOr<ShmAttachment> mapped =
        AttachShm(socket_path, table_set, ShmMode::kMapped, timeout, clock);
    if (mapped.ok()) {
      return std::unique_ptr<Transport>(
          new ShmTransport(std::move(mark), *std::move(mapped), clock));
    }
    // The owner cannot lend the tables, or this process has no room for them.
    if (!absl::IsUnimplemented(mapped.status())) return mapped.status();
  }
  ENGRAM_ASSIGN_OR_RETURN(ShmAttachment ring,
                          AttachShm(socket_path, table_set, ShmMode::kRing, timeout, clock));
  return std::unique_ptr<Transport>(new ShmRingTransport(std::move(mark), std::move(ring), clock));
}

ShmTransport::ShmTransport(ForkMark mark, ShmAttachment attachment, Clock& clock)
    : TicketedTransport({.clock = &clock, .spare_batches = kMaxOpenTickets}),
      mark_(std::move(mark)),
      attachment_(std::move(attachment)),
      capabilities_{.name = "shm",
                    .lands_asynchronously = false,
                    .max_batch_rows = kMaxLocalBatchRows,
                    .lands_at_places = true,
                    .owner_version = attachment_.owner_version} {}

ShmTransport::~ShmTransport() {
  if (!mark_.InForkedChild()) {
    ReapAll();
    return;
  }
  Disown();
  attachment_.control.Abandon();
  for (Mapping& table : attachment_.memory) table.Abandon();
}

absl::Status ShmTransport::MayReadMapped() const {
  ENGRAM_RETURN_IF_ERROR(mark_.Check());
  return MayBegin(attachment_.control.Read().state, attachment_.attached.manifest.id);
}

absl::Status ShmTransport::MayUseMapped() const {
  // x86 keeps loads in order; so must the compiler.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  return MayFinish(attachment_.control.Read().state, attachment_.attached.manifest.id);
}

absl::Status ShmTransport::Prepare(const BatchRequest& batch) {
  ENGRAM_RETURN_IF_ERROR(MayReadMapped());
  ENGRAM_RETURN_IF_ERROR(CheckBatch(batch, attachment_.attached.manifest, capabilities_, clock()));
  ENGRAM_RETURN_IF_ERROR(CheckBatchIsHeld(batch, attachment_.attached));
  ENGRAM_RETURN_IF_ERROR(GatherLocally(batch, attachment_.layers, clock()));
  return MayUseMapped();
}

}  // namespace engram
