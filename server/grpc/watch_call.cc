#include "server/grpc/watch_call.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "server/base/limits.h"
#include "server/grpc/grpc_status.h"
#include "server/grpc/small_message.h"

namespace engram {

void WatchCall::Accept(EventLoop& loop, LookupRequests* requests) {
  auto* const call = new WatchCall(loop, requests);  // its own until it is accepted
  call->WatchEnd();
  requests->Request(LookupRequests::kWatch, &call->context_, &call->stream_, loop.queue(),
                    call->accepted_tag());
}

WatchCall::WatchCall(EventLoop& loop, LookupRequests* requests)
    : RpcCall(loop),
      requests_(requests),
      stream_(&context_),
      read_(this, &WatchCall::OnRead),
      write_(this, &WatchCall::OnWritten) {}

void WatchCall::OnAccepted() {
  since_ = loop_.clock().Now();
  if (const absl::Status status = Admit(); !status.ok()) return End(status);
  stream_.Read(&message_, read_.Begin());
}

absl::Status WatchCall::Admit() {
  ServingContext& context = loop_.context();
  ENGRAM_ASSIGN_OR_RETURN(caller_, context.access->Authenticate(context_));
  const Places::Answer got = context.side_calls.Take(
      connection(), since_, [this] { context_.TryCancel(); }, &place_);
  if (got == Places::Answer::kTaken) return absl::OkStatus();
  return NoPlace(got, context.side_calls, "calls beside lookups");
}

void WatchCall::OnRead(bool ok) {
  if (ended()) return;
  if (const absl::Status status = ok ? ReadRequest() : NoRequest(); !status.ok()) {
    return End(status);
  }
  asked_ = true;
  SendChange();
}

absl::Status WatchCall::ReadRequest() {
  ENGRAM_RETURN_IF_ERROR(ParseSmall(message_, &request_));
  return loop_.context().access->MayHave(caller_, request_.name());
}

void WatchCall::OnTick(MonotonicTime now, bool) {
  if (ended()) return;
  if (!asked_ && now - since_ > absl::FromChrono(kMaxRequestTime)) return End(RequestTooLate());
  const absl::Status status = RecheckToken(caller_, "watch");
  if (status.ok()) return SendChange();
  // What was written is gone in a moment, if its client takes it.
  if (!write_.under_way() || now - write_began_ > absl::FromChrono(kMaxWriteStall)) End(status);
}

void WatchCall::SendChange() {
  if (!asked_ || write_.under_way() || cancelled_ || ended()) return;
  const TableSetRegistry& registry = *loop_.context().registry;
  const uint64_t version = registry.version();
  if (last_sent_id_ && version == version_) return;
  version_ = version;
  std::string id;
  for (const std::shared_ptr<const TableSet>& set : registry.List()) {
    if (set->name() == request_.name()) id = set->id();
  }
  if (last_sent_id_ == id) return;
  last_sent_id_ = id;
  v1::WatchResponse response;
  response.set_table_set_id(id);
  write_began_ = loop_.clock().Now();
  stream_.Write(ToBytes(response), write_.Begin());
}

void WatchCall::OnDrain() {
  End(absl::UnavailableError("engramd is stopping: watch another replica"));
}

void WatchCall::End(const absl::Status& status) {
  if (cancelled_ || ended()) return;
  if (write_.under_way()) {
    // A write that its client may never take.
    cancelled_ = true;
    context_.TryCancel();
    return;
  }
  stream_.Finish(ToGrpc(status), BeginFinish());
}

void WatchCall::OnWritten(bool ok) {
  if (ok) place_.Served(loop_.clock().Now());
  if (lost_token()) return End(RecheckToken(caller_, "watch"));
  SendChange();
}

}  // namespace engram
