// One Watch: tells which table set a name leads to, and when that changes, within a loop's tick.
// Belongs to a loop.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/async_stream.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "server/grpc/lookup_requests.h"
#include "server/grpc/rpc_call.h"

namespace engram {

class WatchCall final : public RpcCall {
 public:
  static void Accept(EventLoop& loop, LookupRequests* requests);
  ~WatchCall() override;

  void OnTick(MonotonicTime, bool) override { SendChange(); }
  void OnDrain() override;
  bool HoldsDrain() const override { return false; }

 private:
  WatchCall(EventLoop& loop, LookupRequests* requests);
  void AcceptNext() override { Accept(loop_, requests_); }
  void OnAccepted() override;
  void OnWritten(bool ok);
  absl::Status Admit();
  void SendChange();
  void End(const absl::Status& status);

  LookupRequests* const requests_;
  grpc::ByteBuffer message_;
  v1::WatchRequest request_;
  grpc::ServerAsyncWriter<grpc::ByteBuffer> writer_;
  Operation<WatchCall> write_;
  uint64_t version_ = 0;  // of the registry, when it was looked at
  std::optional<std::string> last_sent_id_;
  bool counted_ = false;
  bool cancelled_ = false;
};

}  // namespace engram
