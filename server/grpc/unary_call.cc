#include "server/grpc/unary_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/rpc/grpc_time.h"
#include "proto/rpc/message_slices.h"
#include "server/base/limits.h"
#include "server/grpc/grpc_status.h"
#include "server/grpc/slab_slice.h"

namespace engram {
namespace {

// Rows are not split between slabs, so each may end this much early.
uint32_t SlabsFor(uint64_t reply_bytes) {
  constexpr uint64_t kUsable = kSlabBytes - kMaxRowBytes - 4096;
  return static_cast<uint32_t>((reply_bytes + kUsable - 1) / kUsable);
}

// What the client set, by our clock; asked once, so that it does not move.
MonotonicTime DeadlineOf(const grpc::ServerContext& context, MonotonicTime now) {
  const std::chrono::nanoseconds left = rpc::LeftUntil(context.raw_deadline());
  return left == rpc::kForever ? MonotonicTime::Infinite() : now + absl::FromChrono(left);
}

}  // namespace

void UnaryCall::Accept(EventLoop& loop, LookupRequests* requests) {
  auto* const call = new UnaryCall(loop, requests);  // its own until it is accepted
  requests->Request(LookupRequests::kLookup, &call->context_, &call->stream_, loop.queue(),
                    call->accepted_tag());
}

UnaryCall::UnaryCall(EventLoop& loop, LookupRequests* requests)
    : RpcCall(loop),
      requests_(requests),
      stream_(&context_),
      read_(this, &UnaryCall::OnRead),
      ids_(&loop.context().ids, kOwnIdBytes) {}

UnaryCall::~UnaryCall() {
  if (batch_ != nullptr) loop_.Recycle(std::move(batch_));
}

void UnaryCall::OnAccepted() {
  loop_.scheduler().Join(*this, absl::StrCat(connection()));
  ids_.SetConnection(connection());
  loop_.metrics().Began();
  accepted_at_ = loop_.clock().Now();
  deadline_ = DeadlineOf(context_, accepted_at_);
  if (const absl::Status status = Admit(); !status.ok()) return Send(status);
  stream_.Read(&request_, read_.Begin());
}

absl::Status UnaryCall::Admit() {
  ServingContext& context = loop_.context();
  const auto turned_away = [this](Rejection why, absl::Status status) {
    loop_.metrics().Rejected(why);
    return status;
  };
  if (loop_.draining()) {
    return turned_away(Rejection::kDraining,
                       absl::UnavailableError("engramd is stopping: ask another replica"));
  }
  // No call of those who may call gives way to one of those who may not.
  absl::StatusOr<Caller> caller = context.access->Authenticate(context_);
  if (!caller.ok()) {
    context.attach_refusals->AddLookup("unauthenticated", context_.peer(), caller.status());
    return turned_away(Rejection::kUnauthenticated, caller.status());
  }
  caller_ = *std::move(caller);
  const Places::Answer got = context.unary_calls.Take(
      connection(), accepted_at_, [this] { context_.TryCancel(); }, &place_);
  if (got != Places::Answer::kTaken) {
    return turned_away(Rejection::kQueueFull,
                       NoPlace(got, context.unary_calls, "lookups under way"));
  }
  return absl::OkStatus();
}

void UnaryCall::OnRead(bool ok) {
  if (ended()) return;
  if (!ok) return Send(NoRequest());
  place_.WaitsForClient(false);
  accepted_at_ = loop_.clock().Now();
  absl::Status status = Prepare();
  if (status.ok() && !batch_->done()) {
    // Rows in memory are there at once, and nobody is called.
    status =
        batch_->BeginReply(loop_.executor(), [this](const absl::Status& rows) { OnRows(rows); })
            .status();
  }
  since_ = loop_.clock().Now();
  loop_.metrics().RecordLatency(Stage::kPlan, Elapsed(accepted_at_, since_));
  request_.Clear();
  if (!status.ok()) return Send(status);
  if (batch_->done()) return SendWithoutRows();
  if (batch_->rows_present()) loop_.scheduler().Ready(*this);
}

// Not once it is answered.
void UnaryCall::OnRows(const absl::Status& status) {
  if (!status.ok()) return Send(status);
  since_ = loop_.clock().Now();
  loop_.scheduler().Ready(*this);
}

absl::Status UnaryCall::Prepare() {
  ServingContext& context = loop_.context();
  const auto turned_away = [this](Rejection why, absl::Status status) {
    loop_.metrics().Rejected(why);
    return status;
  };
  batch_ = loop_.NewBatch();
  rpc::MessageSlices slices;
  absl::Status status = slices.Read(request_)
                            ? batch_->Parse(slices.chain(), accepted_at_)
                            : absl::InvalidArgumentError("the message cannot be read");
  if (!status.ok()) return status;
  status = batch_->Prepare(
      *context.registry,
      {.max_batch_rows = context.max_batch_rows, .max_reply_bytes = kMaxUnaryReplyBytes},
      [&](absl::string_view name) { return context.access->MayHave(caller_, name); });
  if (absl::IsPermissionDenied(status)) {
    context.attach_refusals->AddLookup("permission_denied", context_.peer(), status);
    return turned_away(Rejection::kPermissionDenied, status);
  }
  if (!status.ok()) return status;
  rows_ = batch_->Rows();
  loop_.metrics().Addressed(batch_->Tokens(), batch_->DeadMask());
  if (status = ids_.Take(batch_->IdBytes()); !status.ok()) {
    return turned_away(Rejection::kBytesFull, status);
  }
  const absl::Duration left = deadline_ - loop_.clock().Now();
  status = loop_.scheduler().Admit(*this, /*ahead=*/0, FairScheduler::Work(batch_->RowsLeftBytes()),
                                   left);
  return absl::IsResourceExhausted(status) ? turned_away(Rejection::kLate, status) : status;
}

// One that has its request is soon over; others may never be.
void UnaryCall::OnDrain() {
  if (read_.under_way() && !ended()) {
    loop_.metrics().Rejected(Rejection::kDraining);
    Send(absl::UnavailableError("engramd is stopping: ask another replica"));
  }
}

void UnaryCall::OnStop() {
  if (!ended()) Send(absl::UnavailableError("engramd has stopped: ask another replica"));
}

void UnaryCall::OnSlabs() {
  awaits_slabs_ = false;
  if (!ended()) loop_.scheduler().Ready(*this);
}

void UnaryCall::TakeTurn() {
  if (ended()) return;
  if (loop_.clock().Now() >= deadline_) {
    Send(absl::DeadlineExceededError("the deadline passed before the reply was gathered"));
    return;
  }
  const uint64_t work = FairScheduler::Work(batch_->RowsLeftBytes());
  const uint64_t rows_bytes = batch_->RowsLeftBytes();
  std::vector<ReplySlabs::Slab> slabs;
  if (!loop_.TakeSlabs(this, connection(), SlabsFor(batch_->ReplyBytes()), &slabs)) {
    slabs_wanted_ = std::min(slabs_wanted_, loop_.clock().Now());
    awaits_slabs_ = true;
    return;
  }
  const MonotonicTime begin = loop_.clock().Now();
  loop_.metrics().RecordLatency(Stage::kQueue, Elapsed(since_, begin));
  std::vector<grpc::Slice> slices;
  for (ReplySlabs::Slab& slab : slabs) {
    if (batch_->done()) break;
    const absl::Span<std::byte> part = batch_->FillPart(*loop_.context().team, slab.memory());
    slices.push_back(SliceOf(std::move(slab), part));
  }
  since_ = loop_.scheduler().Done(*this, work);
  batch_->Release();
  loop_.metrics().RecordLatency(Stage::kGather, Elapsed(begin, since_));
  loop_.Answered(Path::kGrpcUnary, context_, NameOf(*batch_), absl::OkStatus(), rows_, rows_bytes,
                 Elapsed(accepted_at_, since_));
  const grpc::ByteBuffer reply(slices.data(), slices.size());
  place_.WaitsForClient(true);
  stream_.WriteAndFinish(reply, grpc::WriteOptions(), grpc::Status::OK, BeginFinish());
}

void UnaryCall::SendWithoutRows() {
  loop_.scheduler().Drop(*this, FairScheduler::Work(0));
  loop_.Answered(Path::kGrpcUnary, context_, NameOf(*batch_), absl::OkStatus(), 0, 0,
                 Elapsed(accepted_at_, since_));
  const grpc::Slice slice(batch_->EmptyReply(/*of_stream=*/false));
  batch_->Release();
  place_.WaitsForClient(true);
  stream_.WriteAndFinish(grpc::ByteBuffer(&slice, 1), grpc::WriteOptions(), grpc::Status::OK,
                         BeginFinish());
}

void UnaryCall::Send(const absl::Status& status) {
  since_ = loop_.clock().Now();
  loop_.Answered(Path::kGrpcUnary, context_, batch_ == nullptr ? LookupName() : NameOf(*batch_),
                 status, 0, 0, Elapsed(accepted_at_, since_));
  // What it waits for is given up.
  if (batch_ != nullptr) batch_->Release();
  place_.WaitsForClient(true);
  stream_.Finish(ToGrpc(status), BeginFinish());
}

void UnaryCall::OnFinished() {
  loop_.metrics().RecordLatency(Stage::kSend, Elapsed(since_, loop_.clock().Now()));
}

void UnaryCall::OnTick(MonotonicTime now, bool memory_is_short) {
  if (ended()) {
    const absl::Duration most = MostWriteStall(loop_.context().slabs->HeldBy(connection()));
    if (memory_is_short && now - since_ > most) context_.TryCancel();
  } else if (now >= deadline_) {
    Send(absl::DeadlineExceededError("the deadline passed while the lookup waited"));
  } else if (read_.under_way()) {
    if (now - accepted_at_ > absl::FromChrono(kMaxRequestTime)) Send(RequestTooLate());
  } else if (awaits_slabs_ && now - slabs_wanted_ > absl::FromChrono(kMaxSlabWait)) {
    Send(absl::ResourceExhaustedError(
        absl::StrCat("all of engramd's ", kSlabs,
                     " reply buffers that this connection may have are in use: ", "ask again")));
  }
}

}  // namespace engram
