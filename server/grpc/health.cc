#include "server/grpc/health.h"

#include <grpcpp/support/async_stream.h>

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "server/grpc/grpc_status.h"
#include "server/grpc/rpc_call.h"
#include "server/grpc/small_message.h"
#include "server/grpc/unary_method_call.h"

namespace engram {
namespace {

using HealthRequest = grpc::health::v1::HealthCheckRequest;
using HealthResponse = grpc::health::v1::HealthCheckResponse;

// One Watch: the status, and again when it changes.
class HealthWatchCall final : public RpcCall {
 public:
  static void Accept(EventLoop& loop, Health* health) {
    auto* const call = new HealthWatchCall(loop, health);  // its own until it is accepted
    call->WatchEnd();
    health->service().RequestWatch(&call->context_, &call->message_, &call->writer_, loop.queue(),
                                   loop.queue(), call->accepted_tag());
  }

  void OnTick(MonotonicTime, bool) override { SendChange(); }
  void OnDrain() override { SendChange(); }
  bool HoldsDrain() const override { return false; }

 private:
  HealthWatchCall(EventLoop& loop, Health* health)
      : RpcCall(loop),
        health_(health),
        writer_(&context_),
        write_(this, &HealthWatchCall::OnWritten) {}
  void AcceptNext() override { Accept(loop_, health_); }
  void OnAccepted() override {
    const absl::Status parsed = ParseSmall(message_, &request_);
    if (parsed.ok()) return SendChange();
    writer_.Finish(ToGrpc(parsed), BeginFinish());
  }
  void OnWritten(bool) { SendChange(); }

  void SendChange() {
    const Health::Status status = health_->Of(request_.service());
    if (write_.under_way() || ended() || status == last_sent_status_) return;
    last_sent_status_ = status;
    HealthResponse response;
    response.set_status(status);
    writer_.Write(ToBytes(response), write_.Begin());
  }

  Health* const health_;
  grpc::ByteBuffer message_;
  HealthRequest request_;
  grpc::ServerAsyncWriter<grpc::ByteBuffer> writer_;
  Operation<HealthWatchCall> write_;
  int last_sent_status_ = -1;
};

}  // namespace

Health::Status Health::Of(const std::string& service) const {
  if (!service.empty() && service != v1::Lookup::service_full_name()) {
    return HealthResponse::SERVICE_UNKNOWN;
  }
  return serving_.load() ? HealthResponse::SERVING : HealthResponse::NOT_SERVING;
}

void Health::Accept(EventLoop& loop) {
  using Call = UnaryMethodCall<HealthRequest, HealthResponse>;
  Call::Accept(loop,
               std::make_shared<const Call::Method>(Call::Method{
                   [this](auto* context, auto* request, auto* responder, auto* queue, void* tag) {
                     service_.RequestCheck(context, request, responder, queue, queue, tag);
                   },
                   [this](const Caller&, const HealthRequest& request, HealthResponse* response) {
                     const Status status = Of(request.service());
                     response->set_status(status);
                     if (status != HealthResponse::SERVICE_UNKNOWN) return grpc::Status::OK;
                     return grpc::Status(grpc::StatusCode::NOT_FOUND,
                                         "no such service here; engram.v1.Lookup is one");
                   }}));
  HealthWatchCall::Accept(loop, this);
}

}  // namespace engram
