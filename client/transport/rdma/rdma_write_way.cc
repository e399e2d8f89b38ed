#include "client/transport/rdma/rdma_write_way.h"

#include <endian.h>

#include "memstore/base/status_macros.h"

namespace engram {

absl::Status RdmaWriteWay::Send(RdmaSendQueue& queue, RdmaTickets& tickets) {
  while (requests_.HasRoom() && connection_->MaySend()) {
    RdmaBatch* const batch = queue.Next();
    if (batch == nullptr) break;
    const RdmaTag tag = requests_.NextTag();
    const RdmaBatch::Request request =
        batch->WriteNext(tag, clock_.Now(), connection_->request(tag.slot),
                         connection_->owner_features().image_checks);
    // Under way from here on, so that a batch whose request could not be sent is not forgotten.
    tickets.OnPosted(*batch);
    requests_.Sent(request, batch);
    ENGRAM_RETURN_IF_ERROR(connection_->SendRequest(tag.slot, request.bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> RdmaWriteWay::TakeCompletions(RdmaTickets& tickets) {
  return connection_->TakeCompletions(
      [&](const ibv_wc& completion) { return TakeSuccess(completion, tickets); });
}

absl::Status RdmaWriteWay::TakeSuccess(const ibv_wc& completion, RdmaTickets& tickets) {
  if ((completion.wr_id & RdmaConnection::kSent) != 0) {
    connection_->OnSent(completion.wr_id);
    return absl::OkStatus();
  }
  if (completion.opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
    ENGRAM_RETURN_IF_ERROR(requests_.TakeImmediate(be32toh(completion.imm_data), tickets));
  } else {
    ENGRAM_RETURN_IF_ERROR(requests_.TakeRefusal(
        connection_->Received(completion.wr_id, completion.byte_len), tickets));
  }
  return connection_->PostReceive(completion.wr_id);
}

}  // namespace engram
