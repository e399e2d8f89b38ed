#include "server/grpc/rpc_call.h"

#include <grpc/grpc_security.h>

#include <memory>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "server/base/limits.h"

namespace engram {
namespace {

// What gRPC knows of a connection's peer is an object of the connection's own, whether or not it
// knows anything, which lives as long as a call of it. Names of peers would not do: those of a Unix
// socket are its users'.
uint64_t ConnectionOf(grpc::ServerContext& context) {
  if (context.c_call() == nullptr) return 0;
  grpc_auth_context* const of_connection = grpc_call_auth_context(context.c_call());
  if (of_connection == nullptr) return absl::HashOf(context.peer());
  grpc_auth_context_release(of_connection);  // the call has another reference
  return reinterpret_cast<uintptr_t>(of_connection);
}

}  // namespace

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
  loop_.CountAccepted();
  AcceptNext();
  loop_.Add(std::move(self));
  if (watches_end_) end_.Begin();
  connection_ = ConnectionOf(context_);
  OnAccepted();
}

absl::Status RpcCall::RecheckToken(Caller& caller, absl::string_view way) {
  if (lost_token()) return token_refusal_;
  ServingContext& context = loop_.context();
  token_refusal_ = context.access->Recheck(caller);
  if (lost_token()) context.attach_refusals->AddEnded(way, context_.peer(), token_refusal_);
  return token_refusal_;
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

TellingCall::TellingCall(EventLoop& loop)
    : RpcCall(loop),
      stream_(&context_),
      read_(this, &TellingCall::HandleRead),
      write_(this, &TellingCall::HandleWritten) {}

absl::Status TellingCall::Admit(Places& places, absl::string_view what) {
  ENGRAM_ASSIGN_OR_RETURN(caller_, loop_.context().access->Authenticate(context_));
  const Places::Answer got = places.Take(
      connection(), loop_.clock().Now(), [this] { context_.TryCancel(); }, &place_);
  return got == Places::Answer::kTaken ? absl::OkStatus() : NoPlace(got, places, what);
}

void TellingCall::Write(const grpc::ByteBuffer& message) {
  write_began_ = loop_.clock().Now();
  stream_.Write(message, write_.Begin());
}

void TellingCall::Cancel() {
  if (!std::exchange(cancelled_, true)) context_.TryCancel();
}

void TellingCall::HandleWritten(bool ok) {
  if (ok) place_.Served(loop_.clock().Now());
  OnWritten();
}

absl::Status NoPlace(Places::Answer answer, const Places& places, absl::string_view what) {
  if (answer == Places::Answer::kShare) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this connection has its share of engramd's ", places.places(), " ", what,
                     ", as many as are left for all others: end some, or ask again"));
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("engramd has ", places.places(), " ", what, ", the most it takes: ask again"));
}

absl::Status NoRequest() {
  return absl::InvalidArgumentError("the call has no message, or one that is too long: send one");
}

absl::Status RequestTooLate() {
  return absl::DeadlineExceededError(absl::StrCat(
      "the request was not whole after ", absl::FormatDuration(absl::FromChrono(kMaxRequestTime)),
      ", which is as long as engramd waits for it: send less at once, or over a faster network"));
}

}  // namespace engram
