// A unary method whose messages are protobuf's and whose answer is at hand: Describe, Attach,
// health Check. Runs on a loop, so that no thread of gRPC's own polls beside the loops: such a
// thread would take their events and hand them over, at the cost of a wake-up each.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/async_unary_call.h>

#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/limits.h"
#include "server/grpc/event_loop.h"
#include "server/grpc/grpc_status.h"

namespace engram {

template <typename Request, typename Response>
struct UnaryMethod {
  using Responder = grpc::ServerAsyncResponseWriter<Response>;
  // The generated Request... of the service.
  std::function<void(grpc::ServerContext*, Request*, Responder*, grpc::ServerCompletionQueue*,
                     void* tag)>
      wait;
  std::function<grpc::Status(const Caller&, const Request&, Response*)> answer;
  AccessControl* access = nullptr;  // null: anyone may ask, and the caller has no name
};

template <typename Request, typename Response>
class UnaryMethodCall final : public EventLoop::Call {
 public:
  using Method = UnaryMethod<Request, Response>;

  // Waits for the next call; again, each time one was accepted.
  static void Accept(EventLoop& loop, const std::shared_ptr<const Method>& method) {
    auto* const call = new UnaryMethodCall(loop, method);  // its own until it is accepted
    method->wait(&call->context_, &call->request_, &call->responder_, loop.queue(),
                 call->accepted_.tag());
  }

 private:
  UnaryMethodCall(EventLoop& loop, std::shared_ptr<const Method> method)
      : loop_(loop),
        method_(std::move(method)),
        responder_(&context_),
        accepted_(this, &UnaryMethodCall::OnAccepted),
        sent_(this, &UnaryMethodCall::OnSent) {}

  void OnAccepted(bool ok) {
    std::unique_ptr<UnaryMethodCall> self(this);
    if (!ok) return;  // the server ends
    Accept(loop_, method_);
    loop_.Add(std::move(self));
    since_ = std::chrono::steady_clock::now();
    Response response;
    grpc::Status status;
    if (++loop_.context().unary_method_calls > kMaxUnaryMethodCalls) {
      status = ToGrpc(absl::ResourceExhaustedError(absl::StrCat(
          "engramd has ", kMaxUnaryMethodCalls, " answers that were not taken yet: ask again")));
    } else {
      status = Answer(&response);
    }
    if (status.ok()) {
      responder_.Finish(response, status, sent_.tag());
    } else {
      responder_.FinishWithError(status, sent_.tag());
    }
  }
  grpc::Status Answer(Response* response) {
    Caller caller;
    if (method_->access != nullptr) {
      absl::StatusOr<Caller> authenticated = method_->access->Authenticate(context_);
      if (!authenticated.ok()) return ToGrpc(authenticated.status());
      caller = *std::move(authenticated);
    }
    return method_->answer(caller, request_, response);
  }
  void OnSent(bool) {
    --loop_.context().unary_method_calls;
    loop_.Remove(this);
  }
  // An answer that is not taken makes room for others'.
  void OnTick(std::chrono::steady_clock::time_point now, bool /*memory_is_short*/) override {
    if (now - since_ > kMaxWriteStall) context_.TryCancel();
  }

  EventLoop& loop_;
  const std::shared_ptr<const Method> method_;
  grpc::ServerContext context_;
  Request request_;
  typename Method::Responder responder_;
  rpc::MethodEvent<UnaryMethodCall> accepted_, sent_;
  std::chrono::steady_clock::time_point since_;
};

}  // namespace engram
