#include "server/grpc/stream_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/limits.h"
#include "server/grpc/grpc_status.h"
#include "server/grpc/slab_slice.h"

namespace engram {

void StreamCall::Accept(EventLoop& loop, LookupRequests* requests) {
  auto* const call = new StreamCall(loop, requests);  // its own until it is accepted
  call->WatchEnd();
  requests->Request(LookupRequests::kLookupStream, &call->context_, &call->stream_, loop.queue(),
                    call->accepted_tag());
}

StreamCall::StreamCall(EventLoop& loop, LookupRequests* requests)
    : RpcCall(loop),
      requests_(requests),
      stream_(&context_),
      read_(this, &StreamCall::OnRead),
      write_(this, &StreamCall::OnWritten),
      ids_(&loop.context().ids, kOwnIdBytes) {}

StreamCall::~StreamCall() { DropAll(); }

void StreamCall::OnAccepted() {
  loop_.scheduler().Join(*this, absl::StrCat(connection()));
  ids_.SetConnection(connection());
  last_event_ = now_ = loop_.clock().Now();
  if (end_ = TakePlace(); !end_.ok()) {
    read_all_ = true;
    loop_.Refused(context_, end_, Elapsed(last_event_, loop_.clock().Now()));
  }
  Advance();
}

absl::Status StreamCall::TakePlace() {
  ServingContext& context = loop_.context();
  absl::StatusOr<Caller> caller = context.access->Authenticate(context_);
  if (!caller.ok()) {
    loop_.context().attach_refusals->AddLookup("unauthenticated", context_.peer(), caller.status());
    // No stream of those who may call gives way to it.
    loop_.metrics().Rejected(Rejection::kUnauthenticated);
    return caller.status();
  }
  caller_ = *std::move(caller);
  auto give_way = [executor = loop_.executor(), call = std::weak_ptr<StreamCall*>(self_)] {
    executor->Post([call] {
      if (const std::shared_ptr<StreamCall*> there = call.lock()) (*there)->GiveWay();
    });
  };
  const Places::Answer got = context.streams.Take(connection(), now_, std::move(give_way), &place_);
  if (got == Places::Answer::kTaken) return absl::OkStatus();
  loop_.metrics().Rejected(Rejection::kQueueFull);
  return NoPlace(got, context.streams, "streams");
}

void StreamCall::GiveWay() {
  if (ended()) return;
  // One whose client takes nothing cannot be told.
  if (write_.under_way()) return context_.TryCancel();
  // One that ends already says why it does.
  if (end_.ok()) {
    end_ = absl::UnavailableError(absl::StrCat(
        "engramd has ", kMaxStreams,
        " streams, or is short of memory, and this one served its client least: open it again "
        "when it is needed"));
  }
  read_all_ = true;
  now_ = loop_.clock().Now();
  Advance();
}

void StreamCall::OnRead(bool ok) {
  last_event_ = now_ = loop_.clock().Now();
  if (!ok) read_all_ = true;
  if (ok && !ended()) TakeBatch();
  message_.Clear();
  Advance();
}

void StreamCall::OnWritten(bool ok) {
  last_event_ = now_ = loop_.clock().Now();
  loop_.metrics().RecordLatency(Stage::kSend, Elapsed(write_began_, last_event_));
  if (!ok) DropAll();  // the connection is gone; OnOver follows
  if (ok && write_has_rows_) place_.Served(now_);
  Advance();
}

void StreamCall::TakeBatch() {
  std::unique_ptr<LookupBatch> batch = loop_.NewBatch();
  batch->received = last_event_;
  absl::Status status = slices_.Read(message_)
                            ? batch->Parse(slices_.chain(), batch->received)
                            : absl::InvalidArgumentError("the message cannot be read");
  slices_.Clear();  // the batch has copied what it needs
  if (!status.ok() || !batch->cancels()) loop_.metrics().Began();
  if (!status.ok()) {
    // Whose answer it would be is not known.
    EndFor(LookupName(), std::move(status));
  } else if (batch->cancels()) {
    Cancel(batch->batch_id());
  } else if (batches_.Has(batch->batch_id())) {
    EndFor(NameOf(*batch),
           absl::InvalidArgumentError(absl::StrCat("batch_id ", batch->batch_id(),
                                                   " is under way already: give each its own")));
  } else if (status = Admit(*batch); !status.ok()) {
    AddError(*batch, status);
  } else if (batch->done()) {
    AnswerWithoutRows(std::move(batch));
    return;
  } else {
    batch->waits_since = now_ = loop_.clock().Now();
    loop_.metrics().RecordLatency(Stage::kPlan, Elapsed(batch->received, now_));
    LookupBatch& added = *batch;
    batches_.Add(std::move(batch));
    AskForRows(added);
    return;
  }
  loop_.Recycle(std::move(batch));
}

void StreamCall::EndFor(const LookupName& name, absl::Status status) {
  end_ = std::move(status);
  read_all_ = true;
  loop_.Answered(Path::kGrpcStream, context_, name, end_, 0, 0,
                 Elapsed(last_event_, loop_.clock().Now()));
}

absl::Status StreamCall::Admit(LookupBatch& batch) {
  ServingContext& context = loop_.context();
  const auto turned_away = [this](Rejection why, absl::Status status) {
    loop_.metrics().Rejected(why);
    return status;
  };
  absl::Status status = context.access->Recheck(caller_);
  if (!status.ok()) {
    context.attach_refusals->AddLookup("unauthenticated", context_.peer(), status);
    return turned_away(Rejection::kUnauthenticated, status);
  }
  status = batch.Prepare(
      *context.registry, {.max_batch_rows = context.max_batch_rows, .max_reply_bytes = 0},
      [&](absl::string_view name) { return context.access->MayHave(caller_, name); });
  if (absl::IsPermissionDenied(status)) {
    context.attach_refusals->AddLookup("permission_denied", context_.peer(), status);
    return turned_away(Rejection::kPermissionDenied, status);
  }
  if (!status.ok()) return status;
  loop_.metrics().Addressed(batch.Tokens(), batch.DeadMask());
  if (status = ids_.Take(batch.IdBytes()); !status.ok()) {
    return turned_away(Rejection::kBytesFull, status);
  }
  const absl::Duration left = batch.deadline() - loop_.clock().Now();
  status = loop_.scheduler().Admit(*this, batches_.WorkAhead(batch),
                                   FairScheduler::Work(batch.RowsLeftBytes()), left);
  if (status.ok()) return status;
  ids_.Give(batch.IdBytes());
  return absl::IsResourceExhausted(status) ? turned_away(Rejection::kLate, status) : status;
}

void StreamCall::Cancel(uint64_t batch_id) {
  std::unique_ptr<LookupBatch> batch = batches_.TakeOut(batch_id);
  if (batch == nullptr) return;
  AddError(*batch, absl::CancelledError("the batch was cancelled"));
  Drop(std::move(batch));
}

void StreamCall::AskForRows(LookupBatch& batch) {
  // Rows in memory are there at once, and nobody is called.
  const auto when =
      batch.BeginMessage(kStreamMessageBytes, loop_.executor(),
                         [this, &batch](const absl::Status& status) { OnRows(batch, status); });
  if (!when.ok()) Fail(batch, when.status());
}

// Not once the batch was dropped, so neither after the call.
void StreamCall::OnRows(LookupBatch& batch, const absl::Status& status) {
  now_ = loop_.clock().Now();
  if (!status.ok()) Fail(batch, status);
  Advance();
}

void StreamCall::Fail(LookupBatch& batch, const absl::Status& status) {
  std::unique_ptr<LookupBatch> failed = batches_.TakeOut(batch.batch_id());
  AddError(*failed, status);
  Drop(std::move(failed));
}

void StreamCall::AddError(const LookupBatch& batch, const absl::Status& status) {
  loop_.Answered(Path::kGrpcStream, context_, NameOf(batch), status, 0, 0,
                 Elapsed(batch.received, loop_.clock().Now()));
  const bool retry = absl::IsResourceExhausted(status);
  rowless_.push_back(wire::EncodeReplyError(
      {.batch_id = batch.batch_id(),
       .code = static_cast<uint32_t>(status.code()),
       .message = {status.message().data(), status.message().size()},
       .retry_after_ms = retry ? static_cast<uint32_t>(kRetryDelay.count()) : 0}));
}

void StreamCall::AnswerWithoutRows(std::unique_ptr<LookupBatch> batch) {
  loop_.Answered(Path::kGrpcStream, context_, NameOf(*batch), absl::OkStatus(), 0, 0,
                 Elapsed(batch->received, loop_.clock().Now()));
  rowless_.push_back(batch->EmptyReply(/*of_stream=*/true));
  Drop(std::move(batch));
}

void StreamCall::Drop(std::unique_ptr<LookupBatch> batch) {
  ids_.Give(batch->IdBytes());
  loop_.scheduler().Drop(*this, FairScheduler::Work(batch->RowsLeftBytes()));
  loop_.Recycle(std::move(batch));
}

void StreamCall::DropAll() {
  for (std::unique_ptr<LookupBatch>& batch : batches_.TakeAll()) {
    // Whose client is gone, or ended the call.
    loop_.metrics().Answered(Path::kGrpcStream, absl::StatusCode::kCancelled, 0, 0,
                             Elapsed(batch->received, loop_.clock().Now()));
    Drop(std::move(batch));
  }
  rowless_.clear();
  ahead_.reset();
}

void StreamCall::DropExpired() {
  for (std::unique_ptr<LookupBatch>& batch : batches_.TakeExpired(now_)) {
    AddError(*batch,
             absl::DeadlineExceededError("the deadline passed before the batch was answered"));
    Drop(std::move(batch));
  }
}

void StreamCall::Advance() {
  if (over()) return;
  WriteAhead();
  place_.WaitsForClient(write_.under_way() || Idle());
  if (!ended() && !ahead_ && batches_.Next() != nullptr) {
    const bool at_once = loop_.scheduler().Empty();
    loop_.scheduler().Ready(*this);
    // The rows first; the turn comes back here.
    if (at_once) return;
  }
  StartRead();
  MaybeFinish();
}

bool StreamCall::Idle() const {
  return !write_.under_way() && !ahead_ && rowless_.empty() && batches_.empty();
}

void StreamCall::WriteAhead() {
  while (!ended()) {
    if (!ahead_ && !rowless_.empty()) {
      ahead_ = rpc::OneSlice(grpc::Slice(rowless_.front()));
      ahead_has_rows_ = false;
      rowless_.pop_front();
    }
    if (!ahead_ || write_.under_way()) return;
    write_began_ = now_;
    write_has_rows_ = ahead_has_rows_;
    stream_.Write(*ahead_, write_.Begin());
    ahead_.reset();
  }
}

// Gathers a message, of the small and the large batches in turn.
void StreamCall::TakeTurn() {
  const MonotonicTime begin = now_ = loop_.clock().Now();
  DropExpired();
  WriteAhead();
  LookupBatch* const next = batches_.Next();
  if (ahead_ || ended() || next == nullptr) return Advance();
  if (!loop_.TakeSlabs(this, connection(), 1, &slab_)) {
    StartRead();
    return;  // OnSlabs asks for the turn again
  }
  LookupBatch& batch = *next;
  const uint64_t before = FairScheduler::Work(batch.RowsLeftBytes());
  loop_.metrics().RecordLatency(Stage::kQueue, Elapsed(batch.waits_since, begin));
  const absl::Span<std::byte> part =
      batch.FillMessage(*loop_.context().team, slab_.back().memory());
  batch.waits_since = now_ =
      loop_.scheduler().Done(*this, before - FairScheduler::Work(batch.RowsLeftBytes()));
  loop_.metrics().RecordLatency(Stage::kGather, Elapsed(begin, now_));
  ahead_ = rpc::OneSlice(SliceOf(std::move(slab_.back()), part));
  ahead_has_rows_ = true;
  slab_.clear();
  if (std::unique_ptr<LookupBatch> done = batches_.Gathered(batch)) {
    loop_.Answered(Path::kGrpcStream, context_, NameOf(batch), absl::OkStatus(), batch.Rows(),
                   batch.RowsBytes(), Elapsed(batch.received, now_));
    Drop(std::move(done));
  } else {
    AskForRows(batch);
  }
  Advance();
}

void StreamCall::StartRead() {
  if (read_.under_way() || read_all_ || ended() || loop_.draining()) return;
  if (batches_.size() >= kMaxBatchesPerStream || ids_.bytes() > kMaxIdBytesPerStream) {
    return;
  }
  // A client that asks for nothing but errors and does not read them is not read any more either.
  if (rowless_.size() >= kMaxBatchesPerStream) return;
  stream_.Read(&message_, read_.Begin());
}

void StreamCall::MaybeFinish() {
  if (ended() || !Idle()) return;
  if (!read_all_ && !loop_.draining()) return;
  if (end_.ok() && !read_all_) {
    end_ = absl::UnavailableError("engramd is stopping: open a stream to another replica");
  }
  stream_.Finish(ToGrpc(end_), BeginFinish());
}

void StreamCall::EndWithToken() {
  if (ended() || lost_token()) return;
  absl::Status status = RecheckToken(caller_, "lookup");
  if (status.ok() || !end_.ok()) return;
  end_ = std::move(status);
  read_all_ = true;
}

void StreamCall::OnTick(MonotonicTime now, bool memory_is_short) {
  now_ = now;
  EndWithToken();
  // Nor is one waited for that takes nothing and is to end.
  if (write_.under_way() && (memory_is_short || lost_token() || loop_.draining()) &&
      now - write_began_ > MostWriteStall(loop_.context().slabs->HeldBy(connection()))) {
    context_.TryCancel();
  }
  // Batches that wait, for slabs or for rows, have deadlines.
  DropExpired();
  if (!write_.under_way()) Advance();
}

}  // namespace engram
