// What the two ways share by which requests travel over gRPC: a long-lived stream (grpc_stream.h),
// or each as a unary call (grpc_unary_calls.h).
//
// Neither has a thread. Their events come out of the transport's completion queue, which one thread
// at a time drives (queue_driver.h); Send and Cancel may be called from any thread meanwhile.
// When requests end they are handed to the RequestSink.
//
// What both have is here. Their headers begin alike because each overrides all of GrpcCalls, and
// keeps its calls by its own kind of Call: a stream's carries many requests and outlives them, a
// unary one is a request's own. Nothing of how they begin, cancel or end is the same.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>

#include "absl/types/span.h"
#include "client/transport/grpc/grpc_batch.h"
#include "client/transport/grpc/grpc_credentials.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "proto/rpc/message_slices.h"

namespace engram {

using RequestPointer = std::shared_ptr<GrpcBatch::Request>;
using RawStub = grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer>;

// Told on the driver's thread, with no lock held.
class RequestSink {
 public:
  // Rows, or the error that ends the request. `chain` and `reply` live until it returns.
  virtual void OnReply(const RequestPointer& request, absl::Span<const wire::Bytes> chain,
                       const wire::LookupResponse& reply, bool ended) = 0;
  // The call that carried the request ended without an answer to it. `had_answered`: to others it
  // had given answers before, so the server may be back behind another connection.
  virtual void OnGone(const RequestPointer& request, const grpc::Status& status,
                      bool had_answered) = 0;

 protected:
  ~RequestSink() = default;
};

// What calls need of their transport; all of it outlives them.
struct GrpcCallContext {
  RawStub* stub = nullptr;
  const GrpcCredentials* credentials = nullptr;
  grpc::CompletionQueue* queue = nullptr;
  RequestSink* sink = nullptr;
  const Clock* clock = nullptr;
};

class GrpcCalls {
 public:
  virtual ~GrpcCalls() = default;  // Ended
  GrpcCalls(const GrpcCalls&) = delete;
  GrpcCalls& operator=(const GrpcCalls&) = delete;

  // Requests are sent in the order in which they came. False, and nothing comes of it: after End.
  [[nodiscard]] virtual bool Send(const RequestPointer& request) = 0;
  // Asks the server to give the request up; its OnReply or OnGone still comes. True: it had not
  // been sent, and nothing comes. No effect on one that did not come this way.
  [[nodiscard]] virtual bool Cancel(const RequestPointer& request) = 0;
  // No further Send is taken: a thread that drives may be about to send a request again. The last
  // events still come out of the queue, until Ended, which then holds for good. Returns how many
  // requests had not been sent: nothing comes of them.
  [[nodiscard]] virtual uint64_t End() = 0;
  virtual bool Ended() const = 0;

 protected:
  explicit GrpcCalls(const GrpcCallContext& context) : context_(context) {}

  // A reply as it was received, for the thread that drives. Reused from message to message.
  class ReceivedMessage {
   public:
    // False when it is no LookupResponse.
    bool Parse(const grpc::ByteBuffer& message) {
      return slices_.Read(message) && reply_.Parse(slices_.chain());
    }
    absl::Span<const wire::Bytes> chain() const { return slices_.chain(); }
    const wire::LookupResponse& reply() const { return reply_; }
    // Lets go of the message's bytes.
    void Clear() { slices_.Clear(); }

   private:
    rpc::MessageSlices slices_;
    wire::LookupResponse reply_;
  };

  // What a request is as a message.
  static grpc::ByteBuffer EncodeRequest(const GrpcBatch::Request& request) {
    const grpc::Slice slice(request.batch->RequestBytes(request));
    request.batch->WriteRequest(request, const_cast<uint8_t*>(slice.begin()));
    return rpc::OneSlice(slice);
  }
  // How a call ends whose message is no reply to what was asked.
  static grpc::Status NotAReply() {
    return {grpc::StatusCode::INTERNAL, "the server sent what is no engram.v1.LookupResponse"};
  }

  const GrpcCallContext context_;
  ReceivedMessage received_;
  mutable Mutex mutex_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace engram
