// gRPC's server reflection on the loops: what services and messages there are, for grpcurl and
// the like.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>
#include <vector>

#include "proto/grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/grpc/event_loop.h"

namespace engram {

class Reflection {
 public:
  using Request = grpc::reflection::v1alpha::ServerReflectionRequest;
  using Response = grpc::reflection::v1alpha::ServerReflectionResponse;

  // `services`: full names of what the server has.
  explicit Reflection(std::vector<std::string> services) : services_(std::move(services)) {}
  grpc::reflection::v1alpha::ServerReflection::AsyncService& service() { return service_; }
  // Thread-safe. What is not there is NOT_FOUND in the response.
  void Answer(const Request& request, Response* response) const;

  // Waits for the first call.
  void Accept(EventLoop& loop);

 private:
  const std::vector<std::string> services_;
  grpc::reflection::v1alpha::ServerReflection::AsyncService service_;
};

}  // namespace engram
