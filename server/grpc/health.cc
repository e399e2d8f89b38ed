#include "server/grpc/health.h"

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
    health->service().Request(Health::kWatch, &call->context_, &call->stream_, loop.queue(),
                              call->accepted_tag());
  }

  void OnTick(MonotonicTime now, bool) override {
    if (!asked_ && now - since_ > absl::FromChrono(kMaxRequestTime)) End(RequestTooLate());
    SendChange();
  }
  void OnDrain() override { SendChange(); }
  bool HoldsDrain() const override { return false; }

 private:
  HealthWatchCall(EventLoop& loop, Health* health)
      : RpcCall(loop),
        health_(health),
        stream_(&context_),
        read_(this, &HealthWatchCall::OnRead),
        write_(this, &HealthWatchCall::OnWritten) {}
  void AcceptNext() override { Accept(loop_, health_); }
  void OnAccepted() override {
    since_ = loop_.clock().Now();
    Places& places = loop_.context().health_calls;
    const Places::Answer got = places.Take(
        connection(), since_, [this] { context_.TryCancel(); }, &place_);
    if (got != Places::Answer::kTaken) return End(NoPlace(got, places, "health calls"));
    stream_.Read(&message_, read_.Begin());
  }
  void OnRead(bool ok) {
    if (ended()) return;
    const absl::Status parsed = ok ? ParseSmall(message_, &request_) : NoRequest();
    if (!parsed.ok()) return End(parsed);
    asked_ = true;
    SendChange();
  }
  void OnWritten(bool ok) {
    if (ok) place_.Served(loop_.clock().Now());
    SendChange();
  }

  void SendChange() {
    if (!asked_ || write_.under_way() || ended()) return;
    const Health::Status status = health_->Of(request_.service());
    if (status == last_sent_status_) return;
    last_sent_status_ = status;
    HealthResponse response;
    response.set_status(status);
    stream_.Write(ToBytes(response), write_.Begin());
  }
  void End(const absl::Status& status) {
    if (!ended()) stream_.Finish(ToGrpc(status), BeginFinish());
  }

  Health* const health_;
  grpc::ByteBuffer message_;
  HealthRequest request_;
  RawService::Stream stream_;
  Operation<HealthWatchCall> read_, write_;
  MonotonicTime since_;
  bool asked_ = false;  // its request was read
  int last_sent_status_ = -1;
  Places::Place place_;  // goes first: it calls context_
};

}  // namespace

Health::Health() : service_(grpc::health::v1::Health::service_full_name(), {"Check", "Watch"}) {}

Health::Status Health::Of(const std::string& service) const {
  if (!service.empty() && service != v1::Lookup::service_full_name()) {
    return HealthResponse::SERVICE_UNKNOWN;
  }
  return serving_.load() ? HealthResponse::SERVING : HealthResponse::NOT_SERVING;
}

void Health::Accept(EventLoop& loop) {
  using Call = UnaryMethodCall<HealthRequest, HealthResponse>;
  Call::Accept(
      loop, std::make_shared<const Call::Method>(Call::Method{
                .service = &service_,
                .number = kCheck,
                .answer =
                    [this](const Caller&, const HealthRequest& request, HealthResponse* response) {
                      const Status status = Of(request.service());
                      response->set_status(status);
                      if (status != HealthResponse::SERVICE_UNKNOWN) return grpc::Status::OK;
                      return grpc::Status(grpc::StatusCode::NOT_FOUND,
                                          "no such service here; engram.v1.Lookup is one");
                    },
                .places = &loop.context().health_calls,
                .is_probe = true}));
  HealthWatchCall::Accept(loop, this);
}

}  // namespace engram
