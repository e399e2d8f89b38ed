#include "client/transport/grpc/grpc_calls.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/async_unary_call.h>

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "client/transport/grpc/grpc_deadline.h"
#include "memstore/base/clock.h"
#include "proto/rpc/grpc_time.h"
#include "proto/rpc/queue_event.h"

namespace engram {
namespace {

constexpr char kStreamMethod[] = "/engram.v1.Lookup/LookupStream";
constexpr char kUnaryMethod[] = "/engram.v1.Lookup/Lookup";
// Replies of unary calls that are in memory at once: 16 of 4 MiB.
constexpr size_t kMaxUnaryCalls = 16;

uint64_t TimeoutUs(MonotonicTime deadline) {
  if (deadline == MonotonicTime::Infinite()) return 0;
  return static_cast<uint64_t>(
      std::max<int64_t>(1, absl::ToInt64Microseconds(deadline - RealClock().Now())));
}

uint8_t* Writable(const grpc::Slice& slice) { return const_cast<uint8_t*>(slice.begin()); }

grpc::ByteBuffer EncodeRequest(const GrpcBatch::Part& part) {
  const grpc::Slice slice(part.batch->RequestBytes(part));
  part.batch->WriteRequest(part, Writable(slice));
  return rpc::OneSlice(slice);
}

grpc::ByteBuffer EncodeCancel(uint64_t wire_id) {
  const wire::RequestHead head = {
      .table_set_id = "", .batch_id = wire_id, .timeout_us = 0, .cancel = true};
  const grpc::Slice slice(wire::RequestHeadBytes(head));
  wire::WriteRequestHead(head, Writable(slice));
  return rpc::OneSlice(slice);
}

grpc::Status NotOurs() {
  return {grpc::StatusCode::INTERNAL, "the server sent what is no engram.v1.LookupResponse"};
}

}  // namespace

struct GrpcStream::Call {
  explicit Call(GrpcStream* owner)
      : started(owner, &GrpcStream::OnStarted, this),
        read(owner, &GrpcStream::OnRead, this),
        written(owner, &GrpcStream::OnWritten, this),
        finished(owner, &GrpcStream::OnFinished, this) {}

  grpc::ClientContext context;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream;
  rpc::MethodEvent<GrpcStream, Call*> started, read, written, finished;
  grpc::ByteBuffer message;  // being read
  grpc::Status status;
  grpc::Status why_broken;  // where it was we who broke it
  std::deque<Outgoing> to_send;
  absl::flat_hash_map<uint64_t, PartPointer> in_flight;
  int events = 0;
  bool is_started = false;  // nothing is written before
  bool writing = false;
  bool broken = false;
  bool answered = false;  // it has carried an answer
};

GrpcStream::GrpcStream(RawStub* stub, const GrpcCredentials* credentials,
                       grpc::CompletionQueue* queue, PartSink* sink)
    : stub_(stub), credentials_(credentials), queue_(queue), sink_(sink) {}

GrpcStream::~GrpcStream() = default;

void GrpcStream::Open() {
  auto call = std::make_unique<Call>(this);
  credentials_->Apply(&call->context);
  call->stream = stub_->PrepareCall(&call->context, kStreamMethod, queue_);
  call->events = 1;
  call->stream->StartCall(call->started.tag());
  calls_.push_back(std::move(call));
}

void GrpcStream::Send(const PartPointer& part) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (calls_.empty() || calls_.back()->broken || !calls_.back()->why_broken.ok()) Open();
  Call& call = *calls_.back();
  part->wire_id = next_id_++;
  part->timeout_us = TimeoutUs(part->batch->deadline());
  call.in_flight.emplace(part->wire_id, part);
  call.to_send.push_back({.part = part});
  WriteNext(call);
}

void GrpcStream::Cancel(const PartPointer& part) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const std::unique_ptr<Call>& call : calls_) {
    if (call->broken) continue;
    // Not by its wire_id: that is its stream's, and here another part's.
    const auto found = std::find_if(call->in_flight.begin(), call->in_flight.end(),
                                    [&](const auto& one) { return one.second == part; });
    if (found == call->in_flight.end()) continue;
    call->to_send.push_back({.part = nullptr, .cancel_id = found->first});
    WriteNext(*call);
  }
}

void GrpcStream::WriteNext(Call& call) {
  while (call.is_started && !call.writing && !call.broken && !call.to_send.empty()) {
    const Outgoing next = std::move(call.to_send.front());
    call.to_send.pop_front();
    const bool cancels = next.part == nullptr;
    if (cancels && !call.in_flight.contains(next.cancel_id)) continue;  // answered
    call.writing = true;
    ++call.events;
    call.stream->Write(cancels ? EncodeCancel(next.cancel_id) : EncodeRequest(*next.part),
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
  const std::lock_guard<std::mutex> lock(mutex_);
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
  const std::lock_guard<std::mutex> lock(mutex_);
  --call->events;
  call->writing = false;
  // The read that is always under way finds out why.
  if (ok) WriteNext(*call);
  ForgetIfOver(*call);
}

void GrpcStream::OnRead(Call* call, bool ok) {
  PartPointer part;
  bool ended = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    --call->events;
    if (!ok) {
      Break(*call);
      return;
    }
    if (received_.Parse(call->message)) {
      const auto found = call->in_flight.find(received_.reply().batch_id);
      if (found != call->in_flight.end()) part = found->second;
      ended = received_.reply().last || received_.reply().code != 0;
      if (part != nullptr && ended) call->in_flight.erase(found);
    }
    if (part == nullptr) {
      call->why_broken = NotOurs();
      call->context.TryCancel();
    }
    call->answered = true;
    // Before the rows are copied: what comes next is taken from the wire meanwhile.
    call->message.Clear();
    ++call->events;
    call->stream->Read(&call->message, call->read.tag());
  }
  if (part != nullptr) sink_->OnReply(part, received_.chain(), received_.reply(), ended);
}

void GrpcStream::OnFinished(Call* call, bool) {
  absl::flat_hash_map<uint64_t, PartPointer> gone;
  grpc::Status status;
  bool had_answered = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    --call->events;
    gone = std::exchange(call->in_flight, {});
    status = call->why_broken.ok() ? call->status : call->why_broken;
    had_answered = call->answered;
    ForgetIfOver(*call);
  }
  // A server never ends a stream with OK by itself.
  if (status.ok()) status = {grpc::StatusCode::UNAVAILABLE, "the server ended the stream"};
  for (const auto& [id, part] : gone) sink_->OnGone(part, status, had_answered);
}

void GrpcStream::ForgetIfOver(Call& call) {
  if (!call.broken || call.events > 0) return;
  calls_.erase(std::find_if(calls_.begin(), calls_.end(),
                            [&](const auto& one) { return one.get() == &call; }));
}

void GrpcStream::End() {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const std::unique_ptr<Call>& call : calls_) call->context.TryCancel();
}

bool GrpcStream::Ended() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return calls_.empty();
}

struct GrpcUnaryCalls::Call {
  explicit Call(GrpcUnaryCalls* owner) : done(owner, &GrpcUnaryCalls::OnDone, this) {}

  PartPointer part;
  grpc::ClientContext context;
  grpc::ByteBuffer reply;
  grpc::Status status;
  std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> reader;
  rpc::MethodEvent<GrpcUnaryCalls, Call*> done;
};

GrpcUnaryCalls::GrpcUnaryCalls(RawStub* stub, const GrpcCredentials* credentials,
                               grpc::CompletionQueue* queue, PartSink* sink)
    : stub_(stub), credentials_(credentials), queue_(queue), sink_(sink) {}

GrpcUnaryCalls::~GrpcUnaryCalls() = default;

void GrpcUnaryCalls::Send(const PartPointer& part) {
  const std::lock_guard<std::mutex> lock(mutex_);
  waiting_.push_back(part);
  StartSome();
}

void GrpcUnaryCalls::StartSome() {
  while (!waiting_.empty() && calls_.size() < kMaxUnaryCalls) {
    auto call = std::make_unique<Call>(this);
    call->part = std::move(waiting_.front());
    waiting_.pop_front();
    const MonotonicTime deadline = call->part->batch->deadline();
    if (deadline != MonotonicTime::Infinite())
      call->context.set_deadline(
          rpc::After(absl::ToChronoNanoseconds(deadline - RealClock().Now())));
    credentials_->Apply(&call->context);
    call->reader =
        stub_->PrepareUnaryCall(&call->context, kUnaryMethod, EncodeRequest(*call->part), queue_);
    call->reader->StartCall();
    call->reader->Finish(&call->reply, &call->status, call->done.tag());
    calls_.push_back(std::move(call));
  }
}

bool GrpcUnaryCalls::Cancel(const PartPointer& part) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const std::unique_ptr<Call>& call : calls_) {
    if (call->part == part) call->context.TryCancel();
  }
  return std::erase(waiting_, part) > 0;
}

void GrpcUnaryCalls::OnDone(Call* call, bool) {
  std::unique_ptr<Call> done;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto at = std::find_if(calls_.begin(), calls_.end(),
                                 [&](const auto& one) { return one.get() == call; });
    done = std::move(*at);
    calls_.erase(at);
    StartSome();
  }
  if (!done->status.ok()) {
    sink_->OnGone(done->part, done->status, /*had_answered=*/false);
  } else if (!received_.Parse(done->reply) || received_.reply().batch_id != done->part->wire_id ||
             received_.reply().code != 0) {
    sink_->OnGone(done->part, NotOurs(), /*had_answered=*/false);
  } else {
    sink_->OnReply(done->part, received_.chain(), received_.reply(), /*ended=*/true);
  }
}

void GrpcUnaryCalls::End() {
  const std::lock_guard<std::mutex> lock(mutex_);
  waiting_.clear();
  for (const std::unique_ptr<Call>& call : calls_) call->context.TryCancel();
}

bool GrpcUnaryCalls::Ended() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return calls_.empty();
}

}  // namespace engram
