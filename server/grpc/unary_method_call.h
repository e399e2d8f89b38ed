// A unary method whose messages are protobuf's and whose answer is at hand: Describe, Attach,
// health Check. Runs on a loop, so that no thread of gRPC's own polls beside the loops: such a
// thread would take their events and hand them over, at the cost of a wake-up each.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/async_unary_call.h>

#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/limits.h"
#include "server/grpc/grpc_status.h"
#include "server/grpc/rpc_call.h"
#include "server/grpc/small_message.h"

namespace engram {

template <typename Request, typename Response>
struct UnaryMethod {
  using Responder = grpc::ServerAsyncResponseWriter<grpc::ByteBuffer>;
  // The generated Request... of the service, which has the method raw.
  std::function<void(grpc::ServerContext*, grpc::ByteBuffer*, Responder*,
                     grpc::ServerCompletionQueue*, void* tag)>
      wait;
  std::function<grpc::Status(const Caller&, const Request&, Response*)> answer;
  AccessControl* access = nullptr;  // null: anyone may ask, and the caller has no name
  // Told of each answer that is an error; the request is empty where it was not read.
  std::function<void(const grpc::ServerContextBase&, const Request&, const grpc::Status&)>
      on_refused = [](const grpc::ServerContextBase&, const Request&, const grpc::Status&) {};
};

template <typename Request, typename Response>
class UnaryMethodCall final : public RpcCall {
 public:
  using Method = UnaryMethod<Request, Response>;

  // Waits for the next call; again, each time one was accepted.
  static void Accept(EventLoop& loop, const std::shared_ptr<const Method>& method) {
    auto* const call = new UnaryMethodCall(loop, method);  // its own until it is accepted
    method->wait(&call->context_, &call->request_, &call->responder_, loop.queue(),
                 call->accepted_tag());
  }

 private:
  UnaryMethodCall(EventLoop& loop, std::shared_ptr<const Method> method)
      : RpcCall(loop), method_(std::move(method)), responder_(&context_) {}

  void AcceptNext() override { Accept(loop_, method_); }
  void OnAccepted() override {
    since_ = loop_.clock().Now();
    Request request;
    Response response;
    grpc::Status status;
    if (++loop_.context().unary_method_calls > kMaxUnaryMethodCalls) {
      status = ToGrpc(absl::ResourceExhaustedError(absl::StrCat(
          "engramd has ", kMaxUnaryMethodCalls, " answers that were not taken yet: ask again")));
    } else {
      status = Answer(&request, &response);
    }
    if (!status.ok()) method_->on_refused(context_, request, status);
    if (status.ok()) {
      responder_.Finish(ToBytes(response), status, BeginFinish());
    } else {
      responder_.FinishWithError(status, BeginFinish());
    }
  }
  grpc::Status Answer(Request* request, Response* response) {
    Caller caller;
    if (method_->access != nullptr) {
      absl::StatusOr<Caller> authenticated = method_->access->Authenticate(context_);
      if (!authenticated.ok()) return ToGrpc(authenticated.status());
      caller = *std::move(authenticated);
    }
    if (absl::Status parsed = ParseSmall(request_, request); !parsed.ok()) return ToGrpc(parsed);
    return method_->answer(caller, *request, response);
  }
  void OnFinished() override { --loop_.context().unary_method_calls; }
  // An answer that is not taken makes room for others'.
  void OnTick(MonotonicTime now, bool /*memory_is_short*/) override {
    if (now - since_ > absl::FromChrono(kMaxWriteStall)) context_.TryCancel();
  }

  const std::shared_ptr<const Method> method_;
  grpc::ByteBuffer request_;
  typename Method::Responder responder_;
  MonotonicTime since_;
};

}  // namespace engram
