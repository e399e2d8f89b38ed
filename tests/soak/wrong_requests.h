// Requests that are wrong: a row id out of range, a layer that is not there, nothing asked for.
//
// The SDK refuses them before they are sent; engramd is asked past the SDK, by hand. Each must be
// INVALID_ARGUMENT. Stateless but for the connection; used by one thread.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "client/client.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "tests/soak/draws.h"

namespace engram::soak {

// INTERNAL when the client does not refuse it as it must, or something landed.
absl::Status AskClientWrongly(Client& client, Draws& draws);

class WrongRequests {
 public:
  // HOST:PORT or unix:PATH.
  explicit WrongRequests(const std::string& address);
  // What engramd answered.
  absl::Status Ask(const Manifest& manifest, absl::Duration timeout, Draws& draws);

 private:
  std::unique_ptr<v1::Lookup::Stub> stub_;
};

}  // namespace engram::soak
