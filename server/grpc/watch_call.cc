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
  requests->RequestWatch(&call->context_, &call->message_, &call->writer_, loop.queue(),
                         loop.queue(), call->accepted_tag());
}

WatchCall::WatchCall(EventLoop& loop, LookupRequests* requests)
    : RpcCall(loop), requests_(requests), writer_(&context_), write_(this, &WatchCall::OnWritten) {}

WatchCall::~WatchCall() {
  if (counted_) --loop_.context().watches;
}

void WatchCall::OnAccepted() {
  if (const absl::Status status = Admit(); !status.ok()) return End(status);
  SendChange();
}

absl::Status WatchCall::Admit() {
  ServingContext& context = loop_.context();
  counted_ = true;
  if (++context.watches > kMaxStreams) {
    return absl::ResourceExhaustedError(
        absl::StrCat("engramd has ", kMaxStreams, " watches, the most it takes: ask again"));
  }
  ENGRAM_ASSIGN_OR_RETURN(const Caller caller, context.access->Authenticate(context_));
  ENGRAM_RETURN_IF_ERROR(ParseSmall(message_, &request_));
  return context.access->MayHave(caller, request_.name());
}

void WatchCall::SendChange() {
  if (write_.under_way() || cancelled_ || ended()) return;
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
  writer_.Write(ToBytes(response), write_.Begin());
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
  writer_.Finish(ToGrpc(status), BeginFinish());
}

void WatchCall::OnWritten(bool) { SendChange(); }

}  // namespace engram
