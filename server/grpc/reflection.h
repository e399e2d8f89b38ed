// gRPC's server reflection on the loops: what services and messages there are, for grpcurl and
// the like.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/async_stream.h>

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

 private:
  const std::vector<std::string> services_;
  grpc::reflection::v1alpha::ServerReflection::AsyncService service_;
};

class ReflectionCall final : public EventLoop::Call {
 public:
  static void Accept(EventLoop& loop, Reflection* reflection);
  bool HoldsDrain() const override { return false; }

 private:
  ReflectionCall(EventLoop& loop, Reflection* reflection);
  void OnAccepted(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);
  void OnOver(bool ok);
  void Leave();

  EventLoop& loop_;
  Reflection* const reflection_;
  grpc::ServerContext context_;
  grpc::ServerAsyncReaderWriter<Reflection::Response, Reflection::Request> stream_;
  Reflection::Request request_;
  rpc::MethodEvent<ReflectionCall> accepted_, read_, written_, finished_, over_;
  bool busy_ = false;  // an operation is under way, besides over_
  bool is_over_ = false;
};

}  // namespace engram
