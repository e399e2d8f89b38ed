#include "server/grpc/watch_call.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "server/base/limits.h"
#include "server/grpc/grpc_status.h"
#include "server/grpc/lookup_service.h"

namespace engram {

void NameWatchCall::Accept(EventLoop& loop, LookupService* service) {
  auto* const call = new NameWatchCall(loop, service);  // its own until it is accepted
  call->context_.AsyncNotifyWhenDone(call->over_.tag());
  service->RequestWatch(&call->context_, &call->request_, &call->writer_, loop.queue(),
                        loop.queue(), call->accepted_.tag());
}

NameWatchCall::NameWatchCall(EventLoop& loop, LookupService* service)
    : loop_(loop),
      service_(service),
      writer_(&context_),
      accepted_(this, &NameWatchCall::OnAccepted),
      written_(this, &NameWatchCall::OnWritten),
      finished_(this, &NameWatchCall::OnFinished),
      over_(this, &NameWatchCall::OnOver) {}

NameWatchCall::~NameWatchCall() {
  if (counted_) --loop_.context().watches;
}

void NameWatchCall::OnAccepted(bool ok) {
  std::unique_ptr<NameWatchCall> self(this);
  if (!ok) return;  // the server ends
  Accept(loop_, service_);
  loop_.Add(std::move(self));
  if (const absl::Status status = Begin(); !status.ok()) return End(status);
  Tell();
}

absl::Status NameWatchCall::Begin() {
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

void NameWatchCall::Tell() {
  if (busy_ || ending_ || is_over_) return;
  const Store& store = *loop_.context().store;
  const uint64_t version = store.version();
  if (told_ && version == version_) return;
  version_ = version;
  std::string id;
  for (const std::shared_ptr<const TableSet>& set : store.List()) {
    if (set->name() == request_.name()) id = set->id();
  }
  if (told_ == id) return;
  told_ = id;
  busy_ = true;
  v1::WatchResponse response;
  response.set_table_set_id(id);
  writer_.Write(response, written_.tag());
}

void NameWatchCall::OnDrain() {
  End(absl::UnavailableError("engramd is stopping: watch another replica"));
}

void NameWatchCall::End(const absl::Status& status) {
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

void NameWatchCall::OnWritten(bool) {
  busy_ = false;
  Tell();
  Leave();
}

void NameWatchCall::OnFinished(bool) {
  busy_ = false;
  Leave();
}

void NameWatchCall::OnOver(bool) {
  is_over_ = true;
  Leave();
}

void NameWatchCall::Leave() {
  if (is_over_ && !busy_) loop_.Remove(this);
}

}  // namespace engram
