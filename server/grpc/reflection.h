// gRPC's server reflection on the loops: what services and messages there are, for grpcurl and
// the like. gRPC's own library of it (on the operators' port) would bring threads that poll.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/support/async_stream.h>

#include <string>
#include <vector>

#include "proto/grpc/reflection/v1alpha/reflection.pb.h"
#include "server/grpc/event_loop.h"

namespace engram {

class Reflection {
 public:
  using Request = reflection::ServerReflectionRequest;
  using Response = reflection::ServerReflectionResponse;
  static constexpr char kServiceName[] = "grpc.reflection.v1alpha.ServerReflection";
  // Raw: small_message.h has the reason.
  using Stream = grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;
  // The service under its public name, as a generated one would be.
  class Service final : public grpc::Service {
   public:
    Service();
    void RequestServerReflectionInfo(grpc::ServerContext* context, Stream* stream,
                                     grpc::CompletionQueue* call_queue,
                                     grpc::ServerCompletionQueue* queue, void* tag) {
      RequestAsyncBidiStreaming(0, context, stream, call_queue, queue, tag);
    }
  };

  // `services`: full names of what the server has.
  explicit Reflection(std::vector<std::string> services) : services_(std::move(services)) {}
  Service& service() { return service_; }
  // Thread-safe. What is not there is NOT_FOUND in the response.
  void Answer(const Request& request, Response* response) const;

  // Waits for the first call.
  void Accept(EventLoop& loop);

 private:
  const std::vector<std::string> services_;
  Service service_;
};

}  // namespace engram
