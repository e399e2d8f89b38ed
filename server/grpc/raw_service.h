// A service of gRPC's whose methods are all streams of bytes to us, whatever they are to clients.
//
// On the wire a unary call is a stream of one message each way. Of a method that is registered as
// unary gRPC reads the message before it tells anybody of the call: four megabytes of each of a
// connection's calls, which nobody counts, and for which nobody sets a time. So a call comes to its
// loop with its first bytes, is counted, and then read. Names are the registered ones, so
// reflection and every language's stubs find methods as they are described. Thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/support/async_stream.h>

#include <deque>
#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace engram {

class RawService : public grpc::Service {
 public:
  using Stream = grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

  // `service`: its full name. Methods are numbered as they are named.
  RawService(absl::string_view service, std::initializer_list<absl::string_view> methods) {
    for (const absl::string_view method : methods) {
      names_.push_back(absl::StrCat("/", service, "/", method));
      AddMethod(new grpc::internal::RpcServiceMethod(names_.back().c_str(),
                                                     grpc::internal::RpcMethod::BIDI_STREAMING,
                                                     /*handler=*/nullptr));
      MarkMethodAsync(static_cast<int>(names_.size()) - 1);
    }
  }

  // Waits for the next call of the method; `tag` comes when there is one.
  void Request(int method, grpc::ServerContext* context, Stream* stream,
               grpc::ServerCompletionQueue* queue, void* tag) {
    RequestAsyncBidiStreaming(method, context, stream, queue, queue, tag);
  }

 private:
  std::deque<std::string> names_;  // gRPC has pointers to them
};

}  // namespace engram
