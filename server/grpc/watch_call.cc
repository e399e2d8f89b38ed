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
    : TellingCall(loop), requests_(requests) {}

void WatchCall::OnAccepted() {
  since_ = loop_.clock().Now();
  const absl::Status status = Admit(loop_.context().side_calls, "calls beside lookups");
  if (!status.ok()) return End(status);
  Read();
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
  if (!writing() || now - write_began() > absl::FromChrono(kMaxWriteStall)) End(status);
}

void WatchCall::SendChange() {
  if (!asked_ || writing() || cancelled() || ended()) return;
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
  Write(ToBytes(response));
}

void WatchCall::OnDrain() {
  End(absl::UnavailableError("engramd is stopping: watch another replica"));
}

void WatchCall::End(const absl::Status& status) {
  if (cancelled() || ended()) return;
  if (writing()) return Cancel();  // a write that its client may never take
  stream_.Finish(ToGrpc(status), BeginFinish());
}

void WatchCall::OnWritten() {
  if (lost_token()) return End(RecheckToken(caller_, "watch"));
  SendChange();
}

}  // namespace engram
