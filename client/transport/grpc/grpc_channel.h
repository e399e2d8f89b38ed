// A channel to an engramd, and what its failures mean.
//
// Stateless and thread-safe, but for a HandshakeWatch, which one call has. Nothing blocks.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/transport/grpc/grpc_credentials.h"

namespace engram {

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address,
                                           const GrpcCredentials& credentials);

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

// What to do about a server that nobody reached, by gRPC's words for it: there is one code for a
// name that does not resolve, a connection that is refused, and a server that does not answer.
absl::string_view WhatToDo(absl::string_view words);

// A call's end as a status of ours.
absl::Status FromGrpc(const grpc::Status& status, const std::string& address);

// What the other end, or gRPC, said: others choose it, so it is a line of a bounded length without
// anything that a terminal obeys.
std::string PeerWords(const grpc::Status& status);

}  // namespace engram
