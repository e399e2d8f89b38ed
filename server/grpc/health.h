// gRPC's health service on the loops: whether lookups are served. Check is a unary method; Watch
// tells changes within a loop's tick.
#pragma once

#include <grpcpp/grpcpp.h>

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
  // Raw: small_message.h has the reason.
  using Requests = grpc::health::v1::Health::WithRawMethod_Check<
      grpc::health::v1::Health::WithRawMethod_Watch<grpc::health::v1::Health::Service>>;
  Requests& service() { return service_; }

  void Accept(EventLoop& loop);

 private:
  std::atomic<bool> serving_{false};
  Requests service_;
};

}  // namespace engram
