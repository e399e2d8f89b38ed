// Calls of methods that engramd's port for lookups doesn't have: told so, with the port that has
// them. gRPC's own answer has no words.
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <string>

#include "absl/strings/string_view.h"
#include "server/grpc/event_loop.h"
#include "server/grpc/rpc_call.h"

namespace engram {

// `method`: as its client wrote it, "/SERVICE/METHOD".
std::string UnknownMethodText(absl::string_view method);

class UnknownCall final : public RpcCall {
 public:
  // Waits for the next call; again, each time one was accepted.
  static void Accept(EventLoop& loop, grpc::AsyncGenericService* service);

  bool HoldsDrain() const override { return false; }

 private:
  UnknownCall(EventLoop& loop, grpc::AsyncGenericService* service)
      : RpcCall(loop), service_(service), stream_(&named_context_) {}
  void AcceptNext() override { Accept(loop_, service_); }
  void OnAccepted() override;

  grpc::AsyncGenericService* const service_;
  grpc::GenericServerContext named_context_;  // in place of the base's
  grpc::GenericServerAsyncReaderWriter stream_;
};

}  // namespace engram
