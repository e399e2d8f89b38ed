// How parts of batches travel over gRPC: on a long-lived stream, or each as a unary call.
//
// Neither has a thread. Their events come out of the transport's completion queue, which one thread
// at a time drives (queue_driver.h); Send and Cancel may be called from any thread meanwhile.
// When parts end they are handed to the PartSink.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "client/transport/grpc/grpc_batch.h"
#include "client/transport/grpc/grpc_credentials.h"
#include "proto/rpc/message_slices.h"

namespace engram {

using PartPointer = std::shared_ptr<GrpcBatch::Part>;

// Told on the driver's thread.
class PartSink {
 public:
  // Rows, or the error that ends the part. `chain` and `reply` live until it returns.
  virtual void OnReply(const PartPointer& part, absl::Span<const wire::Bytes> chain,
                       const wire::LookupResponse& reply, bool ended) = 0;
  // The call that carried the part ended without an answer to it. `had_answered`: to others it had
  // given answers before, so the server may be back behind another connection.
  virtual void OnGone(const PartPointer& part, const grpc::Status& status, bool had_answered) = 0;

 protected:
  ~PartSink() = default;
};

// A reply as it was received. Reused from message to message.
class ReceivedMessage {
 public:
  // False when it is no LookupResponse.
  bool Parse(const grpc::ByteBuffer& message) {
    return slices_.Read(message) && reply_.Parse(slices_.chain());
  }
  absl::Span<const wire::Bytes> chain() const { return slices_.chain(); }
  const wire::LookupResponse& reply() const { return reply_; }

 private:
  rpc::MessageSlices slices_;
  wire::LookupResponse reply_;
};

using RawStub = grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer>;

// A long-lived stream; when it breaks, the next Send opens another.
class GrpcStream {
 public:
  GrpcStream(RawStub* stub, const GrpcCredentials* credentials, grpc::CompletionQueue* queue,
             PartSink* sink);
  ~GrpcStream();

  // Parts are sent in the order in which they came.
  void Send(const PartPointer& part);
  // Asks the server to give the part up; its OnReply or OnGone still comes.
  void Cancel(const PartPointer& part);
  // No further Send. The last events still come out of the queue, until Ended.
  void End();
  bool Ended() const;

 private:
  struct Call;
  struct Outgoing {
    PartPointer part;        // to be sent, or ...
    uint64_t cancel_id = 0;  // ... the wire_id of the one to be cancelled
  };

  // These need mutex_.
  void Open();
  void WriteNext(Call& call);
  void Break(Call& call);
  void ForgetIfOver(Call& call);

  void OnStarted(Call* call, bool ok);
  void OnRead(Call* call, bool ok);
  void OnWritten(Call* call, bool ok);
  void OnFinished(Call* call, bool ok);

  RawStub* const stub_;
  const GrpcCredentials* const credentials_;
  grpc::CompletionQueue* const queue_;
  PartSink* const sink_;
  ReceivedMessage received_;  // the driver's

  mutable std::mutex mutex_;
  // The last one is in use unless it broke; those before it have events to come.
  std::vector<std::unique_ptr<Call>> calls_;
  uint64_t next_id_ = 1;
};

// Each part a unary call, a bounded number at a time.
class GrpcUnaryCalls {
 public:
  GrpcUnaryCalls(RawStub* stub, const GrpcCredentials* credentials, grpc::CompletionQueue* queue,
                 PartSink* sink);
  ~GrpcUnaryCalls();

  void Send(const PartPointer& part);
  // Ends the part's call, whose OnReply or OnGone still comes; true: it had none yet, and nothing
  // comes.
  bool Cancel(const PartPointer& part);
  void End();
  bool Ended() const;

 private:
  struct Call;
  void StartSome();  // needs mutex_
  void OnDone(Call* call, bool ok);

  RawStub* const stub_;
  const GrpcCredentials* const credentials_;
  grpc::CompletionQueue* const queue_;
  PartSink* const sink_;
  ReceivedMessage received_;  // the driver's

  mutable std::mutex mutex_;
  std::deque<PartPointer> waiting_;
  std::vector<std::unique_ptr<Call>> calls_;
};

}  // namespace engram
