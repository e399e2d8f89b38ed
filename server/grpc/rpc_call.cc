#include "server/grpc/rpc_call.h"

#include <memory>
#include <utility>

namespace engram {

RpcCall::RpcCall(EventLoop& loop)
    : loop_(loop),
      accepted_(this, &RpcCall::HandleAccepted),
      finish_(this, &RpcCall::HandleFinished),
      end_(this, &RpcCall::HandleOver) {
  loop_.BeginAccept();
}

void RpcCall::WatchEnd() {
  watches_end_ = true;
  context_.AsyncNotifyWhenDone(end_.tag());
}

void RpcCall::HandleAccepted(bool ok) {
  std::unique_ptr<RpcCall> self(this);
  loop_.EndAccept();
  if (!ok) return;  // the server ends, and says so of no call that was not accepted
  AcceptNext();
  loop_.Add(std::move(self));
  if (watches_end_) end_.Begin();
  OnAccepted();
}

void* RpcCall::BeginFinish() {
  finishing_ = true;
  return finish_.Begin();
}

void RpcCall::HandleFinished(bool) { OnFinished(); }

void RpcCall::HandleOver(bool) {
  over_ = true;
  OnOver();
}

}  // namespace engram
