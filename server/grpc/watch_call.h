// One Watch: tells which table set a name leads to, and when that changes, within a loop's tick.
// Belongs to a loop.
#pragma once

#include <grpcpp/grpcpp.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "server/grpc/lookup_requests.h"
#include "server/grpc/rpc_call.h"

namespace engram {

class WatchCall final : public TellingCall {
 public:
  static void Accept(EventLoop& loop, LookupRequests* requests);

  void OnTick(MonotonicTime now, bool memory_is_short) override;
  void OnDrain() override;
  bool HoldsDrain() const override { return false; }

 private:
  WatchCall(EventLoop& loop, LookupRequests* requests);
  void AcceptNext() override { Accept(loop_, requests_); }
  void OnAccepted() override;
  void OnRead(bool ok) override;
  void OnWritten() override;
  absl::Status ReadRequest();
  void SendChange();
  void End(const absl::Status& status);

  LookupRequests* const requests_;
  v1::WatchRequest request_;
  MonotonicTime since_;   // it was accepted
  bool asked_ = false;    // its request was read
  uint64_t version_ = 0;  // of the registry, when it was looked at
  std::optional<std::string> last_sent_id_;
};

}  // namespace engram
