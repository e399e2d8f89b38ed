// A unary method whose messages are protobuf's and whose answer is at hand: Describe, Attach,
// health Check. Runs on a loop, so that no thread of gRPC's own polls beside the loops: such a
// thread would take their events and hand them over, at the cost of a wake-up each.
//
// A call has a place from its first bytes until its client has taken the answer. A client that
// takes too long for its request, or for the answer, is not waited for.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/limits.h"
#include "server/grpc/grpc_status.h"
#include "server/grpc/raw_service.h"
#include "server/grpc/rpc_call.h"
#include "server/grpc/small_message.h"
#include "server/lookup/places.h"

namespace engram {

template <typename Request, typename Response>
struct UnaryMethod {
  RawService* service = nullptr;
  int number = 0;  // the service's for the method
  std::function<grpc::Status(const Caller&, const Request&, Response*)> answer;
  Places* places = nullptr;
  AccessControl* access = nullptr;  // null: anyone may ask, and the caller has no name
  // A probe is answered while engramd drains, which does not wait for it.
  bool is_probe = false;
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
    method->service->Request(method->number, &call->context_, &call->stream_, loop.queue(),
                             call->accepted_tag());
  }

  bool HoldsDrain() const override { return !method_->is_probe; }
  void OnTick(MonotonicTime now, bool /*memory_is_short*/) override {
    if (read_.under_way()) {
      if (now - since_ > absl::FromChrono(kMaxRequestTime)) Refuse(RequestTooLate());
    } else if (now - since_ > absl::FromChrono(kMaxWriteStall)) {
      context_.TryCancel();  // an answer that is not taken makes room for others'
    }
  }
  void OnDrain() override {
    if (read_.under_way() && !method_->is_probe) {
      Refuse(absl::UnavailableError("engramd is stopping: ask another replica"));
    }
  }

 private:
  UnaryMethodCall(EventLoop& loop, std::shared_ptr<const Method> method)
      : RpcCall(loop),
        method_(std::move(method)),
        stream_(&context_),
        read_(this, &UnaryMethodCall::OnRead) {}

  void AcceptNext() override { Accept(loop_, method_); }
  void OnAccepted() override {
    since_ = loop_.clock().Now();
    if (method_->access != nullptr) {
      // No call of those who may call gives way to one of those who may not.
      absl::StatusOr<Caller> caller = method_->access->Authenticate(context_);
      if (!caller.ok()) return Refuse(caller.status());
      caller_ = *std::move(caller);
    }
    const Places::Answer got = method_->places->Take(
        connection(), since_, [this] { context_.TryCancel(); }, &place_);
    if (got != Places::Answer::kTaken) {
      return Refuse(NoPlace(got, *method_->places, "answers that were not taken"));
    }
    stream_.Read(&message_, read_.Begin());
  }
  void OnRead(bool ok) {
    if (ended()) return;
    since_ = loop_.clock().Now();
    Request request;
    Response response;
    const grpc::Status status = ok ? Answer(&request, &response) : ToGrpc(NoRequest());
    if (status.ok()) {
      stream_.WriteAndFinish(ToBytes(response), grpc::WriteOptions(), status, BeginFinish());
      return;
    }
    method_->on_refused(context_, request, status);
    stream_.Finish(status, BeginFinish());
  }
  grpc::Status Answer(Request* request, Response* response) {
    if (absl::Status parsed = ParseSmall(message_, request); !parsed.ok()) return ToGrpc(parsed);
    return method_->answer(caller_, *request, response);
  }
  // Before there is a request.
  void Refuse(const absl::Status& status) {
    if (ended()) return;
    since_ = loop_.clock().Now();
    const grpc::Status refused = ToGrpc(status);
    method_->on_refused(context_, Request(), refused);
    stream_.Finish(refused, BeginFinish());
  }

  const std::shared_ptr<const Method> method_;
  RawService::Stream stream_;
  Operation<UnaryMethodCall> read_;
  grpc::ByteBuffer message_;
  Caller caller_;
  MonotonicTime since_;  // it waits for its request, or its answer was sent
  Places::Place place_;  // goes first: it calls context_
};

}  // namespace engram
