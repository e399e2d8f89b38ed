// One AttachRdma: sets a client's RDMA connection up, and is its lease. Belongs to a loop.
//
// One message is read, acted on and answered at a time. Whatever ends the call - the client
// detaches, dies, or falls silent, its queue pair breaks, engramd stops - lets go of all that it
// had.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "server/grpc/lookup_requests.h"
#include "server/grpc/rpc_call.h"
#include "server/rdma/endpoint.h"

namespace engram {

class AttachRdmaCall final : public RpcCall {
 public:
  // Waits for the next call; again, each time one was accepted. `endpoint` may be null: then all
  // are told so.
  static void Accept(EventLoop& loop, LookupRequests* requests, RdmaEndpoint* endpoint);
  ~AttachRdmaCall() override { LetGo(); }

  void OnTick(MonotonicTime now, bool memory_is_short) override;
  void OnDrain() override;

 private:
  AttachRdmaCall(EventLoop& loop, LookupRequests* requests, RdmaEndpoint* endpoint);
  void AcceptNext() override { Accept(loop_, requests_, endpoint_); }
  void OnAccepted() override;
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnOver() override { LetGo(); }

  // OK: the call goes on; else what it ends with.
  absl::Status Check(MonotonicTime now);
  bool connected() const { return client_ != nullptr || reader_ != nullptr; }
  // What a message is answered with.
  absl::Status Answer();
  absl::Status Offer(const v1::RdmaOpen& open);
  absl::Status Connect(const v1::RdmaConnect& connect);
  absl::Status ConnectReader(const RdmaPeer& peer, v1::RdmaConnected* connected);
  void End(const absl::Status& status);
  void Refused(const absl::Status& status);  // before it was connected
  void LetGo();

  LookupRequests* const requests_;
  RdmaEndpoint* const endpoint_;
  RawService::Stream stream_;
  Operation<AttachRdmaCall> read_, write_;
  grpc::ByteBuffer message_;
  v1::RdmaAttachRequest request_;
  v1::RdmaAttachResponse response_;

  MonotonicTime since_;  // it was accepted
  MonotonicTime write_began_;
  absl::Status end_;  // not OK: it ends so when what is being written is written
  Caller caller_;
  bool opened_ = false;
  v1::RdmaMode mode_ = v1::RDMA_MODE_WRITE;
  std::string set_id_;
  size_t port_ = 0;
  // One of the two once it is connected.
  std::shared_ptr<RdmaSession> client_;
  std::unique_ptr<RdmaReader> reader_;

  bool draining_ = false;
  Places::Place place_;  // until it is connected; goes first: it calls context_
};

}  // namespace engram
