// gRPC's health service on the loops: whether lookups are served. Check is a unary method; Watch
// tells changes within a loop's tick.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/async_stream.h>

#include <atomic>
#include <string>

#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "server/grpc/event_loop.h"

namespace engram {

// Thread-safe.
class Health {
 public:
  using Status = grpc::health::v1::HealthCheckResponse::ServingStatus;

  void SetServing(bool serving) { serving_.store(serving); }
  // SERVICE_UNKNOWN for a name that is neither empty nor engram.v1.Lookup.
  Status Of(const std::string& service) const;
  grpc::health::v1::Health::AsyncService& service() { return service_; }

  void Accept(EventLoop& loop);

 private:
  std::atomic<bool> serving_{false};
  grpc::health::v1::Health::AsyncService service_;
};

class HealthWatchCall final : public EventLoop::Call {
 public:
  static void Accept(EventLoop& loop, Health* health);

  void OnTick(std::chrono::steady_clock::time_point, bool) override { Tell(); }
  void OnDrain() override { Tell(); }
  bool HoldsDrain() const override { return false; }

 private:
  HealthWatchCall(EventLoop& loop, Health* health);
  void OnAccepted(bool ok);
  void OnWritten(bool ok);
  void OnOver(bool ok);
  void Tell();

  EventLoop& loop_;
  Health* const health_;
  grpc::ServerContext context_;
  grpc::health::v1::HealthCheckRequest request_;
  grpc::ServerAsyncWriter<grpc::health::v1::HealthCheckResponse> writer_;
  rpc::MethodEvent<HealthWatchCall> accepted_, written_, over_;
  int last_sent_status_ = -1;
  bool writing_ = false;
  bool is_over_ = false;
};

}  // namespace engram
