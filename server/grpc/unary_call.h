// One unary Lookup: accept, read, check, gather the whole reply into slabs, send. Belongs to a
// loop.
//
// It has a place from its first bytes on. While it waits for its client - for the request to be
// whole, or the reply to be taken - it may have to give it up for another's.
#pragma once

#include <grpcpp/grpcpp.h>

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
  void OnDrain() override;
  void OnStop() override;

 private:
  UnaryCall(EventLoop& loop, LookupRequests* requests);
  void AcceptNext() override { Accept(loop_, requests_); }
  bool Stays() const override { return !ended(); }
  void OnAccepted() override;
  void OnRead(bool ok);
  void OnFinished() override;
  absl::Status Admit();
  absl::Status Prepare();
  void OnRows(const absl::Status& status);
  void TakeTurn() override;
  void Send(const absl::Status& status);
  // The answer to a batch whose slices are all of no columns.
  void SendWithoutRows();

  LookupRequests* const requests_;
  RawService::Stream stream_;
  Operation<UnaryCall> read_;
  grpc::ByteBuffer request_;
  std::unique_ptr<LookupBatch> batch_;
  IdMemoryQuota ids_;
  Caller caller_;
  MonotonicTime accepted_at_;  // then: its request was read
  MonotonicTime deadline_;
  MonotonicTime since_;  // waiting for its turn, or sending
  // Since when it has wanted slabs and there were too few; whether it waits for some to come back.
  MonotonicTime slabs_wanted_ = MonotonicTime::Infinite();
  bool awaits_slabs_ = false;
  uint64_t rows_ = 0;    // of its answer
  Places::Place place_;  // goes first: it calls context_
};

}  // namespace engram
