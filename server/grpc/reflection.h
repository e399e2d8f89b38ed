// gRPC's server reflection on the loops: what services and messages there are, for grpcurl and
// the like. gRPC's own library of it (on the operators' port) would bring threads that poll.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>
#include <utility>
#include <vector>

#include "proto/grpc/reflection/v1alpha/reflection.pb.h"
#include "server/grpc/event_loop.h"
#include "server/grpc/raw_service.h"

namespace engram {

class Reflection {
 public:
  using Request = reflection::ServerReflectionRequest;
  using Response = reflection::ServerReflectionResponse;
  static constexpr char kServiceName[] = "grpc.reflection.v1alpha.ServerReflection";
  // `services`: full names of what the server has.
  explicit Reflection(std::vector<std::string> services)
      : services_(std::move(services)), service_(kServiceName, {"ServerReflectionInfo"}) {}
  RawService& service() { return service_; }
  // Thread-safe. What is not there is NOT_FOUND in the response.
  void Answer(const Request& request, Response* response) const;

  // Waits for the first call.
  void Accept(EventLoop& loop);

 private:
  const std::vector<std::string> services_;
  RawService service_;
};

}  // namespace engram
