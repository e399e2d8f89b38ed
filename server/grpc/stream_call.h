// One LookupStream: reads batches ahead, answers them message by message. Belongs to a loop.
//
// At most one read and one write are under way, and one message is filled ahead, so a client that
// stops reading holds two slabs and what gRPC has buffered. Whose message is next is
// batch_queue.h's business; errors go first. What serves its client is rows that were taken: not
// requests, nor cancels and errors.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/rpc/message_slices.h"
#include "server/grpc/lookup_requests.h"
#include "server/grpc/rpc_call.h"
#include "server/lookup/batch_queue.h"

namespace engram {

class StreamCall final : public RpcCall, private FairScheduler::Call {
 public:
  // Waits for the next stream; again, each time one was accepted.
  static void Accept(EventLoop& loop, LookupRequests* requests);
  ~StreamCall() override;

  void OnSlabs() override { Advance(); }
  void OnTick(MonotonicTime now, bool memory_is_short) override;
  void OnDrain() override { Advance(); }

 private:
  StreamCall(EventLoop& loop, LookupRequests* requests);
  void AcceptNext() override { Accept(loop_, requests_); }
  void OnAccepted() override;
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnOver() override { DropAll(); }

  void TakeBatch();
  absl::Status TakePlace();
  // Ends for the sake of another, or of memory.
  void GiveWay();
  // Ends where the token that opened it was taken back.
  void EndWithToken();
  // Whether nothing is left to be gathered or sent.
  bool Idle() const;
  absl::Status Admit(LookupBatch& batch);
  // What was read last, a request, ends the stream with `status`, and is answered by that.
  void EndFor(const LookupName& name, absl::Status status);
  void Cancel(uint64_t batch_id);
  // Asks for the rows of its next message.
  void AskForRows(LookupBatch& batch);
  void OnRows(LookupBatch& batch, const absl::Status& status);
  // Answers a batch that waits with an error.
  void Fail(LookupBatch& batch, const absl::Status& status);
  // A batch whose slices are all of no columns.
  void AnswerWithoutRows(std::unique_ptr<LookupBatch> batch);
  void AddError(const LookupBatch& batch, const absl::Status& status);
  void Drop(std::unique_ptr<LookupBatch> batch);
  void DropAll();
  void DropExpired();

  // Does what can be done: writes, reads, finishes, and asks for a turn when there are rows to
  // gather.
  void Advance();
  void WriteAhead();
  void TakeTurn() override;
  void StartRead();
  void MaybeFinish();

  LookupRequests* const requests_;
  RawService::Stream stream_;
  Operation<StreamCall> read_, write_;
  grpc::ByteBuffer message_;  // being read
  rpc::MessageSlices slices_;

  Caller caller_;
  BatchQueue batches_{kStreamMessageBytes};
  std::deque<std::string> rowless_;        // errors and answers without rows, framed, to be sent
  std::optional<grpc::ByteBuffer> ahead_;  // filled, to be sent next
  bool ahead_has_rows_ = false, write_has_rows_ = false;
  std::vector<ReplySlabs::Slab> slab_;  // at most one, between taking and filling it
  IdMemoryQuota ids_;

  bool read_all_ = false;  // the client has no more
  absl::Status end_;       // what the stream ends with
  // The clock as it was last read, in the event, tick or turn that goes on: whatever leads to
  // Advance sets it.
  MonotonicTime now_;
  MonotonicTime write_began_;
  MonotonicTime last_event_;  // read or written
  // Whoever finds it is on the loop's thread, where the call is when it is there.
  const std::shared_ptr<StreamCall*> self_ = std::make_shared<StreamCall*>(this);
  Places::Place place_;
};

}  // namespace engram
