// One unary Lookup: accept, check, gather the whole reply into slabs, send. Belongs to a loop.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/async_unary_call.h>

#include <chrono>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "server/grpc/event_loop.h"

namespace engram {

class LookupService;

class UnaryCall final : public EventLoop::Call, private FairScheduler::Call {
 public:
  // Waits for the next call; again, each time one was accepted.
  static void Accept(EventLoop& loop, LookupService* service);
  ~UnaryCall() override;

  void OnSlabs() override;
  void OnTick(std::chrono::steady_clock::time_point now, bool memory_is_short) override;
  void OnDrain() override {}  // it is soon over

 private:
  UnaryCall(EventLoop& loop, LookupService* service);
  void OnAccepted(bool ok);
  void OnSent(bool ok);
  absl::Status Prepare();
  void TakeTurn() override;
  void Send(const absl::Status& status);

  EventLoop& loop_;
  LookupService* const service_;
  grpc::ServerContext context_;
  grpc::ByteBuffer request_;
  grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> responder_;
  rpc::MethodEvent<UnaryCall> accepted_;
  rpc::MethodEvent<UnaryCall> sent_;
  std::unique_ptr<LookupBatch> batch_;
  IdMemoryQuota ids_;
  bool counted_ = false;
  bool sending_ = false;
  std::chrono::steady_clock::time_point accepted_at_;
  std::chrono::steady_clock::time_point since_;  // waiting for slabs, or sending
  uint64_t rows_ = 0;                            // of its answer
};

}  // namespace engram
