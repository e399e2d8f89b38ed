// gRPC's health service on the loops: whether lookups are served. Check is a unary method; Watch
// tells changes within a loop's tick. It has places of its own, of which the oldest gives way, so
// that a probe is answered whatever clients hold.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <string>

#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "server/grpc/event_loop.h"
#include "server/grpc/raw_service.h"

namespace engram {

// Thread-safe.
class Health {
 public:
  enum Method : int { kCheck, kWatch };

  Health();
  using Status = grpc::health::v1::HealthCheckResponse::ServingStatus;

  void SetServing(bool serving) { serving_.store(serving); }
  // SERVICE_UNKNOWN for a name that is neither empty nor engram.v1.Lookup.
  Status Of(const std::string& service) const;
  RawService& service() { return service_; }

  void Accept(EventLoop& loop);

 private:
  std::atomic<bool> serving_{false};
  RawService service_;
};

}  // namespace engram
