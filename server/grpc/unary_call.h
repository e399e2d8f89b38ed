// One unary Lookup: accept, check, gather the whole reply into slabs, send. Belongs to a loop.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/async_unary_call.h>

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "server/grpc/lookup_requests.h"
#include "server/grpc/rpc_call.h"

namespace engram {

class UnaryCall final : public RpcCall, private FairScheduler::Call {
 public:
  // Waits for the next call; again, each time one was accepted.
  static void Accept(EventLoop& loop, LookupRequests* requests);
  ~UnaryCall() override;

  void OnSlabs() override;
  void OnTick(MonotonicTime now, bool memory_is_short) override;
  void OnDrain() override {}  // it is soon over
  void OnStop() override;

 private:
  UnaryCall(EventLoop& loop, LookupRequests* requests);
  void AcceptNext() override { Accept(loop_, requests_); }
  void OnAccepted() override;
  void OnFinished() override;
  absl::Status Prepare();
  void OnRows(const absl::Status& status);
  void TakeTurn() override;
  void Send(const absl::Status& status);
  // The answer to a batch whose slices are all of no columns.
  void SendWithoutRows();

  LookupRequests* const requests_;
  grpc::ByteBuffer request_;
  grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> responder_;
  std::unique_ptr<LookupBatch> batch_;
  IdMemoryQuota ids_;
  bool counted_ = false;
  MonotonicTime accepted_at_;
  MonotonicTime deadline_;
  MonotonicTime since_;  // waiting for its turn, or sending
  // Since when it has wanted slabs and there were too few; whether it waits for some to come back.
  MonotonicTime slabs_wanted_ = MonotonicTime::Infinite();
  bool awaits_slabs_ = false;
  uint64_t rows_ = 0;  // of its answer
};

}  // namespace engram
