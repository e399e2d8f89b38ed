#include "client/transport/grpc/grpc_unary_calls.h"

#include <grpcpp/support/async_unary_call.h>

#include <algorithm>
#include <utility>

#include "client/transport/grpc/grpc_deadline.h"
#include "memstore/base/check.h"
#include "proto/rpc/queue_event.h"

namespace engram {
namespace {

constexpr char kMethod[] = "/engram.v1.Lookup/Lookup";
// Replies of unary calls that are in memory at once: 16 of 4 MiB.
constexpr size_t kMaxCalls = 16;

}  // namespace

struct GrpcUnaryCalls::Call {
  explicit Call(GrpcUnaryCalls* owner) : done(owner, &GrpcUnaryCalls::OnDone, this) {}

  RequestPointer request;
  grpc::ClientContext context;
  grpc::ByteBuffer reply;
  grpc::Status status;
  std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> reader;
  rpc::MethodEvent<GrpcUnaryCalls, Call*> done;
};

GrpcUnaryCalls::GrpcUnaryCalls(const GrpcCallContext& context) : GrpcCalls(context) {}

GrpcUnaryCalls::~GrpcUnaryCalls() = default;

bool GrpcUnaryCalls::Send(const RequestPointer& request) {
  MutexLock lock(mutex_);
  if (ending_) return false;
  waiting_.push_back(request);
  StartSome();
  return true;
}

void GrpcUnaryCalls::StartSome() {
  while (!waiting_.empty() && calls_.size() < kMaxCalls) {
    auto call = std::make_unique<Call>(this);
    call->request = std::move(waiting_.front());
    waiting_.pop_front();
    const MonotonicTime deadline = call->request->batch->deadline();
    if (!deadline.is_infinite()) {
      call->context.set_deadline(GrpcDeadline(deadline, *context_.clock));
    }
    context_.credentials->Apply(&call->context);
    call->reader = context_.stub->PrepareUnaryCall(&call->context, kMethod,
                                                   EncodeRequest(*call->request), context_.queue);
    call->reader->StartCall();
    call->reader->Finish(&call->reply, &call->status, call->done.tag());
    calls_.push_back(std::move(call));
  }
}

bool GrpcUnaryCalls::Cancel(const RequestPointer& request) {
  MutexLock lock(mutex_);
  for (const std::unique_ptr<Call>& call : calls_) {
    if (call->request == request) call->context.TryCancel();
  }
  return std::erase(waiting_, request) > 0;
}

void GrpcUnaryCalls::OnDone(Call* call, bool) {
  std::unique_ptr<Call> done;
  {
    MutexLock lock(mutex_);
    const auto at = std::find_if(calls_.begin(), calls_.end(),
                                 [&](const auto& one) { return one.get() == call; });
    ENGRAM_CHECK(at != calls_.end(), "a unary call was done twice");
    done = std::move(*at);
    calls_.erase(at);
    StartSome();
  }
  if (!done->status.ok()) {
    context_.sink->OnGone(done->request, done->status, /*had_answered=*/false);
  } else if (!received_.Parse(done->reply) ||
             received_.reply().batch_id != done->request->wire_id || received_.reply().code != 0) {
    context_.sink->OnGone(done->request, NotAReply(), /*had_answered=*/false);
  } else {
    context_.sink->OnReply(done->request, received_.chain(), received_.reply(), /*ended=*/true);
  }
  received_.Clear();
}

uint64_t GrpcUnaryCalls::End() {
  MutexLock lock(mutex_);
  ending_ = true;
  for (const std::unique_ptr<Call>& call : calls_) call->context.TryCancel();
  const uint64_t never_sent = waiting_.size();
  waiting_.clear();
  return never_sent;
}

bool GrpcUnaryCalls::Ended() const {
  MutexLock lock(mutex_);
  return calls_.empty();
}

}  // namespace engram
