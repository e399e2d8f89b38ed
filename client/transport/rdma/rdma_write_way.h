// RDMA's way by requests (mode "write"): the client sends row ids or token ids from a registered
// buffer, and the owner gathers and writes rows to where they land; no copy is made here.
//
// As RequestWay: called under the exchange's lock.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/transport/rdma/rdma_connection.h"
#include "client/transport/rdma/rdma_requests.h"
#include "client/transport/rdma/request_way.h"

namespace engram {

class RdmaWriteWay final : public RequestWay {
 public:
  RdmaWriteWay(std::shared_ptr<RdmaConnection> connection, const Clock& clock)
      : connection_(std::move(connection)), clock_(clock) {}

  absl::Status Check(const RdmaBatch& batch) const override {
    return batch.CheckOffered(connection_->owner_features());
  }
  absl::Status Send(RdmaSendQueue& queue, RdmaTickets& tickets) override;
  absl::StatusOr<bool> TakeCompletions(RdmaTickets& tickets) override;
  void ForgetAll(std::vector<RdmaBatch*>* batches) override { requests_.ForgetAll(batches); }

 private:
  absl::Status TakeSuccess(const ibv_wc& completion, RdmaTickets& tickets);

  const std::shared_ptr<RdmaConnection> connection_;
  const Clock& clock_;
  RdmaRequests requests_;
};

}  // namespace engram
