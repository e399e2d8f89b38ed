#include "client/transport/grpc/grpc_stream.h"

#include <grpcpp/support/async_stream.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "proto/rpc/queue_event.h"

namespace engram {
namespace {

constexpr char kMethod[] = "/engram.v1.Lookup/LookupStream";

// What is left as the wire has it: 0 is no limit.
uint64_t TimeoutUs(MonotonicTime deadline, const Clock& clock) {
  if (deadline.is_infinite()) return 0;
  return static_cast<uint64_t>(
      std::max<int64_t>(1, absl::ToInt64Microseconds(deadline - clock.Now())));
}

grpc::ByteBuffer EncodeCancel(uint64_t wire_id) {
  const wire::RequestHead head = {
      .table_set_id = "", .batch_id = wire_id, .timeout_us = 0, .cancel = true};
  const grpc::Slice slice(wire::RequestHeadBytes(head));
  wire::WriteRequestHead(head, const_cast<uint8_t*>(slice.begin()));
  return rpc::OneSlice(slice);
}

}  // namespace

// One stream, from its start until its last event was taken. A read is under way from its start
// until it breaks, and finds out when it does.
struct GrpcStream::Call {
  explicit Call(GrpcStream* owner)
      : started(owner, &GrpcStream::OnStarted, this),
        read(owner, &GrpcStream::OnRead, this),
        written(owner, &GrpcStream::OnWritten, this),
        finished(owner, &GrpcStream::OnFinished, this) {}

  struct Outgoing {
    RequestPointer request;  // to be sent, or ...
    uint64_t cancel_id = 0;  // ... the wire_id of the one to be cancelled
  };

  grpc::ClientContext context;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream;
  rpc::MethodEvent<GrpcStream, Call*> started, read, written, finished;
  grpc::ByteBuffer message;  // being read
  grpc::Status status;
  grpc::Status why_broken;  // where it was we who broke it
  std::deque<Outgoing> to_send;
  absl::flat_hash_map<uint64_t, RequestPointer> in_flight;
  int events = 0;           // that have not been taken
  bool is_started = false;  // nothing is written before
  bool writing = false;
  bool broken = false;
  bool answered = false;  // it has carried an answer
};

GrpcStream::GrpcStream(const GrpcCallContext& context) : GrpcCalls(context) {}

GrpcStream::~GrpcStream() = default;

void GrpcStream::Open() {
  auto call = std::make_unique<Call>(this);
  context_.credentials->Apply(&call->context);
  call->stream = context_.stub->PrepareCall(&call->context, kMethod, context_.queue);
  call->events = 1;
  call->stream->StartCall(call->started.tag());
  calls_.push_back(std::move(call));
}

bool GrpcStream::Send(const RequestPointer& request) {
  MutexLock lock(mutex_);
  if (ending_) return false;
  if (calls_.empty() || calls_.back()->broken || !calls_.back()->why_broken.ok()) Open();
  Call& call = *calls_.back();
  request->wire_id = next_id_++;
  request->timeout_us = TimeoutUs(request->batch->deadline(), *context_.clock);
  call.in_flight.emplace(request->wire_id, request);
  call.to_send.push_back({.request = request});
  WriteNext(call);
  return true;
}

bool GrpcStream::Cancel(const RequestPointer& request) {
  MutexLock lock(mutex_);
  for (const std::unique_ptr<Call>& call : calls_) {
    if (call->broken) continue;
    // Not by its wire_id: that is its stream's, and here another request's.
    const auto found = std::find_if(call->in_flight.begin(), call->in_flight.end(),
                                    [&](const auto& one) { return one.second == request; });
    if (found == call->in_flight.end()) continue;
    call->to_send.push_back({.request = nullptr, .cancel_id = found->first});
    WriteNext(*call);
  }
  return false;
}

void GrpcStream::WriteNext(Call& call) {
  while (call.is_started && !call.writing && !call.broken && !call.to_send.empty()) {
    const Call::Outgoing next = std::move(call.to_send.front());
    call.to_send.pop_front();
    const bool cancels = next.request == nullptr;
    if (cancels && !call.in_flight.contains(next.cancel_id)) continue;  // answered
    call.writing = true;
    ++call.events;
    call.stream->Write(cancels ? EncodeCancel(next.cancel_id) : EncodeRequest(*next.request),
                       call.written.tag());
  }
}

void GrpcStream::Break(Call& call) {
  if (call.broken) return;
  call.broken = true;
  ++call.events;
  call.stream->Finish(&call.status, call.finished.tag());
}

void GrpcStream::OnStarted(Call* call, bool ok) {
  MutexLock lock(mutex_);
  --call->events;
  if (!ok) {
    Break(*call);
    return;
  }
  call->is_started = true;
  ++call->events;
  call->stream->Read(&call->message, call->read.tag());
  WriteNext(*call);
}

void GrpcStream::OnWritten(Call* call, bool ok) {
  MutexLock lock(mutex_);
  --call->events;
  call->writing = false;
  // The read that is always under way finds out why.
  if (ok) WriteNext(*call);
  ForgetIfOver(*call);
}

RequestPointer GrpcStream::TakeAnswered(Call& call, bool* ended) {
  if (!received_.Parse(call.message)) return nullptr;
  const wire::LookupResponse& reply = received_.reply();
  const auto found = call.in_flight.find(reply.batch_id);
  if (found == call.in_flight.end()) return nullptr;
  RequestPointer request = found->second;
  *ended = reply.last || reply.code != 0;
  if (*ended) call.in_flight.erase(found);
  return request;
}

void GrpcStream::OnRead(Call* call, bool ok) {
  RequestPointer request;
  bool ended = false;
  {
    MutexLock lock(mutex_);
    --call->events;
    if (!ok) {
      Break(*call);
      return;
    }
    request = TakeAnswered(*call, &ended);
    if (request == nullptr) {
      call->why_broken = NotAReply();
      call->context.TryCancel();
    }
    call->answered = true;
    // Before the rows are copied: what comes next is taken from the wire meanwhile.
    call->message.Clear();
    ++call->events;
    call->stream->Read(&call->message, call->read.tag());
  }
  if (request != nullptr) {
    context_.sink->OnReply(request, received_.chain(), received_.reply(), ended);
  }
  received_.Clear();
}

void GrpcStream::OnFinished(Call* call, bool) {
  absl::flat_hash_map<uint64_t, RequestPointer> gone;
  grpc::Status status;
  bool had_answered = false;
  {
    MutexLock lock(mutex_);
    --call->events;
    gone = std::exchange(call->in_flight, {});
    status = call->why_broken.ok() ? call->status : call->why_broken;
    had_answered = call->answered;
    ForgetIfOver(*call);
  }
  // A server never ends a stream with OK by itself.
  if (status.ok()) status = {grpc::StatusCode::UNAVAILABLE, "the server ended the stream"};
  for (const auto& [id, request] : gone) context_.sink->OnGone(request, status, had_answered);
}

void GrpcStream::ForgetIfOver(Call& call) {
  if (!call.broken || call.events > 0) return;
  calls_.erase(std::find_if(calls_.begin(), calls_.end(),
                            [&](const auto& one) { return one.get() == &call; }));
}

uint64_t GrpcStream::End() {
  MutexLock lock(mutex_);
  ending_ = true;
  for (const std::unique_ptr<Call>& call : calls_) call->context.TryCancel();
  return 0;
}

bool GrpcStream::Ended() const {
  MutexLock lock(mutex_);
  return calls_.empty();
}

}  // namespace engram
