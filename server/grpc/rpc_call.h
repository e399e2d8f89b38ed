// What the calls of a loop have in common: how each is accepted, what it has under way, its end.
//
// A call waits to be accepted as nobody's, then it is the loop's. What it asks of gRPC are its
// operations, which count themselves: stream_.Read(&message_, read_.Begin()). When the last one is
// over the call leaves the loop, which destroys it after the event; so nothing of a call is called
// once it is gone, and no method of a call has to ask whether it is. A call that watches its end
// has that under way from the start; one that does not is over with its answer, and says that it
// stays until it has given one (Stays).
//
// All of it runs on the loop's thread. Cost: a flag and a count an operation.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "memstore/base/check.h"
#include "proto/rpc/queue_event.h"
#include "server/grpc/event_loop.h"
#include "server/grpc/raw_service.h"
#include "server/lookup/places.h"
#include "server/security/access.h"

namespace engram {

class RpcCall : public EventLoop::Call {
 protected:
  // An operation of `CallType`'s, of which one is under way at a time.
  template <typename CallType>
  class Operation final : public rpc::QueueEvent {
   public:
    using Method = void (CallType::*)(bool);

    // `method` is called when it is over.
    Operation(CallType* call, Method method) : call_(call), method_(method) {}
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;

    // From here on it is under way: the tag for gRPC.
    void* Begin() {
      ENGRAM_CHECK(!under_way_, "an operation of a call was begun twice");
      under_way_ = true;
      ++static_cast<RpcCall*>(call_)->under_way_;
      return tag();
    }
    bool under_way() const { return under_way_; }

    void Done(bool ok) override {
      RpcCall& call = *call_;
      under_way_ = false;
      --call.under_way_;
      (call_->*method_)(ok);
      if (call.under_way_ == 0 && !call.Stays()) call.loop_.Remove(&call);
    }

   private:
    CallType* const call_;
    const Method method_;
    bool under_way_ = false;
  };

  explicit RpcCall(EventLoop& loop);

  // Waits for the next call of the method; each is followed by one as soon as it was accepted.
  virtual void AcceptNext() = 0;
  // It was accepted, and is the loop's.
  virtual void OnAccepted() = 0;
  // Its answer or end was sent, or could not be.
  virtual void OnFinished() {}
  // Whether it stays with nothing under way: it has an answer to give, which it will begin.
  virtual bool Stays() const { return false; }
  // The call is over for whatever reason; what is under way comes back soon.
  virtual void OnOver() {}

  // Before it is accepted: it is to be told when it is over, and stays until then.
  void WatchEnd();
  // The tag for Request...
  void* accepted_tag() { return accepted_.tag(); }
  // The tag for Finish; nothing else is begun from here on.
  void* BeginFinish();
  // Nothing may be begun any more: it is finishing, or over.
  bool ended() const { return finishing_ || over_; }
  bool over() const { return over_; }
  // Which connection it came by: a number that no other open connection has, of TCP or of a Unix
  // socket. Since it was accepted.
  uint64_t connection() const { return connection_; }

  // For calls that last, in their ticks: OK while the token that `caller` opened this one with
  // holds. Once it was taken back UNAUTHENTICATED, whatever becomes of it, and that is told of,
  // once, as of a `way` ("lookup").
  absl::Status RecheckToken(Caller& caller, absl::string_view way);
  bool lost_token() const { return !token_refusal_.ok(); }

  EventLoop& loop_;
  grpc::ServerContext context_;

 private:
  void HandleAccepted(bool ok);
  void HandleFinished(bool ok);
  void HandleOver(bool ok);

  rpc::MethodEvent<RpcCall> accepted_;
  Operation<RpcCall> finish_, end_;
  uint64_t connection_ = 0;
  bool watches_end_ = false;
  bool finishing_ = false;
  bool over_ = false;
  int under_way_ = 0;  // operations
  absl::Status token_refusal_;
};

// A call that lasts and tells its client something now and then: its messages are written one at a
// time, while what the client says is read. What a client does not take ends by a cancel alone.
class TellingCall : public RpcCall {
 protected:
  explicit TellingCall(EventLoop& loop);

  // What was read, in message_; not ok: the client says nothing more, or its message is too long.
  virtual void OnRead(bool ok) = 0;
  // What was being written is gone, or the call is over.
  virtual void OnWritten() = 0;

  // OK: the caller may call, and has one of `places`, which are of `what`.
  absl::Status Admit(Places& places, absl::string_view what);
  // Where nothing is being read.
  void Read() { stream_.Read(&message_, read_.Begin()); }
  bool reading() const { return read_.under_way(); }
  // Where nothing is being written.
  void Write(const grpc::ByteBuffer& message);
  bool writing() const { return write_.under_way(); }
  MonotonicTime write_began() const { return write_began_; }
  // Ends the call, whatever is being written.
  void Cancel();
  bool cancelled() const { return cancelled_; }

  RawService::Stream stream_;
  grpc::ByteBuffer message_;
  Caller caller_;

 private:
  void HandleRead(bool ok) { OnRead(ok); }
  void HandleWritten(bool ok);

  Operation<TellingCall> read_, write_;
  MonotonicTime write_began_;  // the last one
  bool cancelled_ = false;
  Places::Place place_;  // goes first: it calls context_
};

// Why a call has no place among `places`, which are of `what` ("streams"): RESOURCE_EXHAUSTED.
absl::Status NoPlace(Places::Answer answer, const Places& places, absl::string_view what);
// A call that ended without a request, and one whose request did not come in time.
absl::Status NoRequest();
absl::Status RequestTooLate();

}  // namespace engram
