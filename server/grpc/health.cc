#include "server/grpc/health.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "server/grpc/unary_method_call.h"

namespace engram {

using HealthRequest = grpc::health::v1::HealthCheckRequest;
using HealthResponse = grpc::health::v1::HealthCheckResponse;

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

void HealthWatchCall::Accept(EventLoop& loop, Health* health) {
  auto* const call = new HealthWatchCall(loop, health);  // its own until it is accepted
  call->context_.AsyncNotifyWhenDone(call->over_.tag());
  health->service().RequestWatch(&call->context_, &call->request_, &call->writer_, loop.queue(),
                                 loop.queue(), call->accepted_.tag());
}

HealthWatchCall::HealthWatchCall(EventLoop& loop, Health* health)
    : loop_(loop),
      health_(health),
      writer_(&context_),
      accepted_(this, &HealthWatchCall::OnAccepted),
      written_(this, &HealthWatchCall::OnWritten),
      over_(this, &HealthWatchCall::OnOver) {}

void HealthWatchCall::OnAccepted(bool ok) {
  std::unique_ptr<HealthWatchCall> self(this);
  if (!ok) return;  // the server ends
  Accept(loop_, health_);
  loop_.Add(std::move(self));
  Tell();
}

void HealthWatchCall::Tell() {
  const Health::Status status = health_->Of(request_.service());
  if (writing_ || is_over_ || status == last_sent_status_) return;
  last_sent_status_ = status;
  writing_ = true;
  HealthResponse response;
  response.set_status(status);
  writer_.Write(response, written_.tag());
}

void HealthWatchCall::OnWritten(bool) {
  writing_ = false;
  if (is_over_) {
    loop_.Remove(this);
  } else {
    Tell();
  }
}

void HealthWatchCall::OnOver(bool) {
  is_over_ = true;
  if (!writing_) loop_.Remove(this);
}

}  // namespace engram
