#include "server/grpc/unknown_call.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"
#include "server/grpc/grpc_status.h"

namespace engram {

std::string UnknownMethodText(absl::string_view method) {
  const std::string quoted = QuoteForMessage(method);
  if (absl::StartsWith(method, "/engram.v1.Admin/")) {
    return absl::StrCat("this is engramd's port for lookups (--listen), which has no method ",
                        quoted, ": operators call the address of --admin-grpc-listen");
  }
  if (absl::StartsWith(method, "/grpc.reflection.") ||
      absl::StartsWith(method, "/grpc.channelz.")) {
    return absl::StrCat("this port of engramd has no method ", quoted,
                        ": reflection is on addresses of this machine alone (127.0.0.1, unix:), "
                        "and with channelz on the operators' port (--admin-grpc-listen)");
  }
  return absl::StrCat("engramd's port for lookups has no method ", quoted,
                      ": it has those of engram.v1.Lookup and grpc.health.v1.Health; make calls "
                      "with stubs of proto/engram/v1/lookup.proto, of this version");
}

void UnknownCall::Accept(EventLoop& loop, grpc::AsyncGenericService* service) {
  auto* const call = new UnknownCall(loop, service);  // its own until it is accepted
  service->RequestCall(&call->named_context_, &call->stream_, loop.queue(), loop.queue(),
                       call->accepted_tag());
}

void UnknownCall::OnAccepted() {
  stream_.Finish(ToGrpc(absl::UnimplementedError(UnknownMethodText(named_context_.method()))),
                 BeginFinish());
}

}  // namespace engram
