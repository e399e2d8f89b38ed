// Requests on a long-lived stream; when it breaks, the next Send opens another. Contract:
// grpc_calls.h. Cost of a request: one message each way, or several back.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "client/transport/grpc/grpc_calls.h"

namespace engram {

class GrpcStream final : public GrpcCalls {
 public:
  explicit GrpcStream(const GrpcCallContext& context);
  ~GrpcStream() override;

  bool Send(const RequestPointer& request) override;
  bool Cancel(const RequestPointer& request) override;
  uint64_t End() override;
  bool Ended() const override;

 private:
  struct Call;

  void Open() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteNext(Call& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Break(Call& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetIfOver(Call& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The request that the message received answers, and whether it ends with it; null: none.
  RequestPointer TakeAnswered(Call& call, bool* ended) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void OnStarted(Call* call, bool ok);
  void OnRead(Call* call, bool ok);
  void OnWritten(Call* call, bool ok);
  void OnFinished(Call* call, bool ok);

  // The last one is in use unless it broke; those before it have events to come.
  std::vector<std::unique_ptr<Call>> calls_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace engram
