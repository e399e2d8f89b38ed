// One Watch: tells which table set a name leads to, and when that changes, within a loop's tick.
// Belongs to a loop.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/async_stream.h>

#include <chrono>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "server/grpc/event_loop.h"

namespace engram {

class LookupService;

class WatchCall final : public EventLoop::Call {
 public:
  static void Accept(EventLoop& loop, LookupService* service);
  ~WatchCall() override;

  void OnTick(std::chrono::steady_clock::time_point, bool) override { Tell(); }
  void OnDrain() override;
  bool HoldsDrain() const override { return false; }

 private:
  WatchCall(EventLoop& loop, LookupService* service);
  void OnAccepted(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);
  void OnOver(bool ok);
  absl::Status Begin();
  void Tell();
  void End(const absl::Status& status);
  void Leave();

  EventLoop& loop_;
  LookupService* const service_;
  grpc::ServerContext context_;
  v1::WatchRequest request_;
  grpc::ServerAsyncWriter<v1::WatchResponse> writer_;
  rpc::MethodEvent<WatchCall> accepted_, written_, finished_, over_;
  uint64_t version_ = 0;                     // of the store, when it was looked at
  std::optional<std::string> last_sent_id_;  // the id
  bool counted_ = false;
  bool busy_ = false;  // a write or the end is under way
  bool ending_ = false;
  bool is_over_ = false;
};

}  // namespace engram
