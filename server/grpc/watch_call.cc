#include "server/grpc/watch_call.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "server/base/limits.h"
#include "server/grpc/grpc_status.h"
#include "server/grpc/lookup_service.h"

namespace engram {

void WatchCall::Accept(EventLoop& loop, LookupService* service) {
  auto* const call = new WatchCall(loop, service);  // its own until it is accepted
  call->context_.AsyncNotifyWhenDone(call->over_.tag());
  service->RequestWatch(&call->context_, &call->request_, &call->writer_, loop.queue(),
                        loop.queue(), call->accepted_.tag());
}

WatchCall::WatchCall(EventLoop& loop, LookupService* service)
    : loop_(loop),
      service_(service),
      writer_(&context_),
      accepted_(this, &WatchCall::OnAccepted),
      written_(this, &WatchCall::OnWritten),
      finished_(this, &WatchCall::OnFinished),
      over_(this, &WatchCall::OnOver) {}

WatchCall::~WatchCall() {
  if (counted_) --loop_.context().watches;
}

void WatchCall::OnAccepted(bool ok) {
  std::unique_ptr<WatchCall> self(this);
  if (!ok) return;  // the server ends
  Accept(loop_, service_);
  loop_.Add(std::move(self));
  if (const absl::Status status = Begin(); !status.ok()) return End(status);
  Tell();
}

absl::Status WatchCall::Begin() {
  ServingContext& context = loop_.context();
  counted_ = true;
  if (++context.watches > kMaxStreams) {
    return absl::ResourceExhaustedError(
        absl::StrCat("engramd has ", kMaxStreams, " watches, the most it takes: ask again"));
  }
  const absl::StatusOr<Caller> caller = context.access->Authenticate(context_);
  if (!caller.ok()) return caller.status();
  return context.access->MayHave(*caller, request_.name());
}

void WatchCall::Tell() {
  if (busy_ || ending_ || is_over_) return;
  const Store& store = *loop_.context().store;
  const uint64_t version = store.version();
  if (last_sent_id_ && version == version_) return;
  version_ = version;
  std::string id;
  for (const std::shared_ptr<const TableSet>& set : store.List()) {
    if (set->name() == request_.name()) id = set->id();
  }
  if (last_sent_id_ == id) return;
  last_sent_id_ = id;
  busy_ = true;
  v1::WatchResponse response;
  response.set_table_set_id(id);
  writer_.Write(response, written_.tag());
}

void WatchCall::OnDrain() {
  End(absl::UnavailableError("engramd is stopping: watch another replica"));
}

void WatchCall::End(const absl::Status& status) {
  if (ending_ || is_over_) return;
  ending_ = true;
  if (busy_) {
    // A write is under way that its client may never take.
    context_.TryCancel();
    return;
  }
  busy_ = true;
  writer_.Finish(ToGrpc(status), finished_.tag());
}

void WatchCall::OnWritten(bool) {
  busy_ = false;
  Tell();
  Leave();
}

void WatchCall::OnFinished(bool) {
  busy_ = false;
  Leave();
}

void WatchCall::OnOver(bool) {
  is_over_ = true;
  Leave();
}

void WatchCall::Leave() {
  if (is_over_ && !busy_) loop_.Remove(this);
}

}  // namespace engram
