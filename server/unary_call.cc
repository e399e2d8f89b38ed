#include "server/unary_call.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/grpc_status.h"
#include "server/limits.h"
#include "server/lookup_service.h"

namespace engram {
namespace {

using Clock = std::chrono::steady_clock;

// Rows are not split between slabs, so each may end this much early.
uint32_t SlabsFor(uint64_t reply_bytes) {
  constexpr uint64_t kUsable = kSlabBytes - kMaxRowBytes - 4096;
  return static_cast<uint32_t>((reply_bytes + kUsable - 1) / kUsable);
}

}  // namespace

void UnaryCall::Accept(LookupLoop& loop, LookupService* service) {
  auto* const call = new UnaryCall(loop, service);  // its own until it is accepted, then the loop's
  service->RequestLookup(&call->context_, &call->request_, &call->responder_, loop.queue(),
                         loop.queue(), static_cast<LoopEvent*>(&call->accepted_));
}

UnaryCall::UnaryCall(LookupLoop& loop, LookupService* service)
    : loop_(loop),
      service_(service),
      responder_(&context_),
      accepted_(this, &UnaryCall::OnAccepted),
      sent_(this, &UnaryCall::OnSent),
      ids_(&loop.context().ids, kOwnIdBytes) {}

UnaryCall::~UnaryCall() {
  if (counted_) --loop_.context().unary_calls;
  if (batch_ != nullptr) loop_.Recycle(std::move(batch_));
}

void UnaryCall::OnAccepted(bool ok) {
  std::unique_ptr<UnaryCall> self(this);
  if (!ok) return;  // the server ends
  Accept(loop_, service_);
  loop_.Add(std::move(self));
  loop_.turns().Join(*this, context_.peer());
  since_ = Clock::now();
  const absl::Status status = Prepare();
  request_.Clear();
  if (status.ok()) {
    loop_.turns().Ready(*this);
  } else {
    Send(status);
  }
}

absl::Status UnaryCall::Prepare() {
  LookupContext& context = loop_.context();
  if (loop_.draining()) return absl::UnavailableError("engramd is stopping: ask another replica");
  counted_ = true;
  if (++context.unary_calls > kMaxUnaryCalls) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "engramd has ", kMaxUnaryCalls, " lookups under way, the most it takes: ask again"));
  }
  absl::StatusOr<Caller> caller = context.access->Authenticate(context_);
  if (!caller.ok()) return caller.status();
  batch_ = loop_.NewBatch();
  MessageSlices slices;
  absl::Status status = batch_->Parse(slices.Of(request_));
  if (!status.ok()) return status;
  status = batch_->Prepare(
      *context.store,
      {.max_batch_rows = context.max_batch_rows, .max_reply_bytes = kMaxUnaryReplyBytes},
      [&](const TableSet& set) { return context.access->MayHave(*caller, set.name()); });
  if (!status.ok()) return status;
  if (status = ids_.Take(batch_->IdBytes()); !status.ok()) return status;
  const auto left = context_.deadline() == std::chrono::system_clock::time_point::max()
                        ? Clock::duration::max()
                        : context_.deadline() - std::chrono::system_clock::now();
  return loop_.turns().Admit(*this, /*ahead=*/0, Turns::Work(batch_->RowsLeftBytes()), left);
}

void UnaryCall::OnSlabs() {
  if (!sending_) loop_.turns().Ready(*this);
}

void UnaryCall::TakeTurn() {
  if (sending_) return;
  if (std::chrono::system_clock::now() >= context_.deadline()) {
    Send(absl::DeadlineExceededError("the deadline passed before the reply was gathered"));
    return;
  }
  const uint64_t work = Turns::Work(batch_->RowsLeftBytes());
  std::vector<ReplySlabs::Slab> slabs;
  if (!loop_.TakeSlabs(this, SlabsFor(batch_->ReplyBytes()), &slabs)) return;
  std::vector<grpc::Slice> slices;
  for (ReplySlabs::Slab& slab : slabs) {
    if (batch_->done()) break;
    const absl::Span<std::byte> part = batch_->FillPart(*loop_.context().team, slab.memory());
    slices.push_back(SliceOf(std::move(slab), part));
  }
  loop_.turns().Done(*this, work);
  batch_->Release();
  sending_ = true;
  since_ = Clock::now();
  const grpc::ByteBuffer reply(slices.data(), slices.size());
  responder_.Finish(reply, grpc::Status::OK, static_cast<LoopEvent*>(&sent_));
}

void UnaryCall::Send(const absl::Status& status) {
  sending_ = true;
  since_ = Clock::now();
  responder_.FinishWithError(ToGrpc(status), static_cast<LoopEvent*>(&sent_));
}

void UnaryCall::OnSent(bool) { loop_.Remove(this); }

void UnaryCall::OnTick(Clock::time_point now, bool memory_is_short) {
  if (sending_) {
    if (memory_is_short && now - since_ > kMaxWriteStall) context_.TryCancel();
  } else if (std::chrono::system_clock::now() >= context_.deadline()) {
    Send(absl::DeadlineExceededError("the deadline passed while the lookup waited its turn"));
  } else if (now - since_ > kMaxSlabWait) {
    Send(absl::ResourceExhaustedError(
        absl::StrCat("all ", kSlabs, " reply buffers of engramd are in use: ask again")));
  }
}

}  // namespace engram
