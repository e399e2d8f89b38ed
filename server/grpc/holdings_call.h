// One Holdings: says what this engramd holds, and is its client's lease of the sets that it says it
// uses. Belongs to a loop.
//
// What is held is told within a loop's tick of a change, and once a second. Requests are read one a
// tick, so that a client that says it again and again costs the loop no more than others do. A
// client that takes nothing is let go. Whatever ends the call, its leases end with it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "memstore/store/lease.h"
#include "server/cluster/store_status.h"
#include "server/grpc/lookup_requests.h"
#include "server/grpc/rpc_call.h"

namespace engram {

class HoldingsCall final : public TellingCall {
 public:
  static void Accept(EventLoop& loop, LookupRequests* requests);

  void OnTick(MonotonicTime now, bool memory_is_short) override;
  void OnDrain() override;
  bool HoldsDrain() const override { return false; }

 private:
  HoldingsCall(EventLoop& loop, LookupRequests* requests);
  void AcceptNext() override { Accept(loop_, requests_); }
  void OnAccepted() override;
  void OnOver() override { leases_.clear(); }
  void OnRead(bool ok) override;
  void OnWritten() override { FinishUnlessWriting(); }
  absl::Status ReadRequest();
  void TakeLeases();
  v1::HoldingsResponse Make() const;
  void Send();
  void End(absl::Status status);
  void FinishUnlessWriting();

  LookupRequests* const requests_;
  bool admitted_ = false;
  std::vector<std::string> used_;  // ids that the client uses, as it said last
  std::vector<Lease> leases_;      // of those that are here and that it may have
  uint64_t leased_version_ = 0;    // of the registry, when they were taken
  StoreStatus::Version sent_version_;
  std::optional<absl::Status> end_;  // what it is to end with, once nothing is being written
};

}  // namespace engram
