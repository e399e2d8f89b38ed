// Attaching to an engramd over gRPC, whatever rows then travel over: the channel, the call, and the
// checks of what the owner sends.
//
// Stateless and thread-safe; CallAttach blocks for at most the time it is given (and no less than
// one try).
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/grpc/grpc_credentials.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"
#include "proto/engram/v1/lookup.grpc.pb.h"

namespace engram {

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address,
                                           const GrpcCredentials& credentials);

// Waits while nobody listens or the server is loading; UNAVAILABLE after that. UNAUTHENTICATED: one
// side does not take the other's certificate, or the token; PERMISSION_DENIED: not this table set.
// RESOURCE_EXHAUSTED: no thread can be started (one lives while it waits), or the server is full.
absl::StatusOr<v1::AttachResponse> CallAttach(const std::shared_ptr<grpc::Channel>& channel,
                                              const GrpcCredentials& credentials,
                                              const std::string& address,
                                              const std::string& table_set, absl::Duration timeout,
                                              Clock& clock = RealClock());

// What the owner sent, after it was held against the id that it says and against what it was asked
// for; DATA_LOSS.
absl::StatusOr<AttachedTableSet> CheckAttached(const v1::AttachResponse& response,
                                               absl::string_view table_set,
                                               const std::string& address);

// Tells a handshake that will never do from an engramd that is not there: gRPC has one code for
// both. One for the tries of one call.
class HandshakeWatch {
 public:
  HandshakeWatch(const GrpcCredentials& credentials, const std::string& address)
      : credentials_(credentials), address_(address) {}
  // After each try: UNAUTHENTICATED once it is known that no try will do.
  absl::Status Observe(const grpc::Status& status);
  // Whether the last try may have been refused for its certificate: another one tells.
  bool undecided() const { return closed_ > 0; }

 private:
  const GrpcCredentials& credentials_;
  const std::string address_;
  int closed_ = 0;
};

// A call's end as a status of ours.
absl::Status FromGrpc(const grpc::Status& status, const std::string& address);

}  // namespace engram
