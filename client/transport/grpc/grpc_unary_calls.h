// Each request a unary call, a bounded number at a time; others wait for their turn here.
// Contract: grpc_calls.h.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "client/transport/grpc/grpc_calls.h"

namespace engram {

class GrpcUnaryCalls final : public GrpcCalls {
 public:
  explicit GrpcUnaryCalls(const GrpcCallContext& context);
  ~GrpcUnaryCalls() override;

  bool Send(const RequestPointer& request) override;
  bool Cancel(const RequestPointer& request) override;
  uint64_t End() override;
  bool Ended() const override;

 private:
  struct Call;

  void StartSome() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnDone(Call* call, bool ok);

  std::deque<RequestPointer> waiting_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Call>> calls_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
