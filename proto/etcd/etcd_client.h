// Calls of etcd's, for both ends: what a store registers by, and what a client finds stores by.
//
// One thread's, which the calls block; a stop that is requested ends the one under way, CANCELLED.
// Of several endpoints one is used at a time: NextEndpoint, after a failure, goes on to the next by
// a new connection. With a user every call carries a token, which is asked for when there is none
// and again when it is refused. proto has no Clock, so `now` is the caller's: a call that has taken
// kCallTime of it ends.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/etcd/rpc.grpc.pb.h"
#include "proto/rpc/queue_event.h"

namespace engram::etcd {

// An etcd that is well answers within milliseconds, one that elects a leader within two seconds.
inline constexpr std::chrono::seconds kCallTime{3};

// `authorities`: the path of PEM; empty: no TLS. `pair`: of the client's key and certificate in one
// file; empty: none. Both are read again when they change, and have to be checked before they do
// (memstore/tls/pem_watch.h).
std::shared_ptr<grpc::ChannelCredentials> MakeCredentials(const std::string& authorities,
                                                          const std::string& pair);

struct ClientOptions {
  std::vector<std::string> endpoints;  // HOST:PORT, one at least
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  bool tls = false;              // what `credentials` speak, for messages
  std::string server_name = {};  // that its certificate is for; empty: the endpoint's host
  std::string user = {};         // empty: none
  // Asked for each time that a token is.
  std::function<absl::StatusOr<std::string>()> password = {};
  std::function<std::chrono::nanoseconds()> now;  // monotonic
};

// An operation of gRPC's that was begun, and is over once its queue's event was taken.
class Operation final : public rpc::QueueEvent {
 public:
  void* Begin() {
    under_way_ = true;
    return tag();
  }
  void Done(bool ok) override {
    under_way_ = false;
    ok_ = ok;
  }
  bool under_way() const { return under_way_; }
  bool ok() const { return ok_; }

 private:
  bool under_way_ = false;
  bool ok_ = false;
};

class Client {
 public:
  Client(ClientOptions options, std::stop_token stop);
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client();

  // Codes are etcd's; UNAVAILABLE: it is not reached, which includes TLS that failed;
  // DEADLINE_EXCEEDED: it does not answer. Messages name the endpoint.
  absl::StatusOr<etcdserverpb::RangeResponse> Range(const etcdserverpb::RangeRequest& request);
  absl::StatusOr<etcdserverpb::PutResponse> Put(const etcdserverpb::PutRequest& request);
  // The lease's id; etcd may grant a longer time than that.
  absl::StatusOr<int64_t> GrantLease(std::chrono::seconds time);
  // NOT_FOUND: there is no such lease any more.
  absl::Status KeepAlive(int64_t lease);
  // Deletes its keys.
  absl::Status RevokeLease(int64_t lease);

  const std::string& endpoint() const { return options_.endpoints[at_]; }
  size_t endpoints() const { return options_.endpoints.size(); }
  void NextEndpoint();
  // The next call asks for a new one: etcd refused it in words that Client does not know it by.
  void ForgetToken();

 private:
  friend class WatchStream;

  using Try = absl::FunctionRef<grpc::Status(grpc::ClientContext& context)>;
  void Connect();
  // Asks for a token where one is needed and not there.
  absl::Status Login();
  void Authorize(grpc::ClientContext& context) const;
  bool IsTokenRefused(const grpc::Status& status) const;
  // Does it, and once more with a new token where the one that it had is refused.
  absl::Status Call(Try once);
  // Takes events of the queue until `operation` is over; a stop that is requested cancels the call.
  // False: `deadline` came before.
  bool TakeUntil(Operation& operation, grpc::ClientContext& context,
                 std::chrono::nanoseconds deadline);
  // The same, and cancels the call where the deadline came.
  bool Await(Operation& operation, grpc::ClientContext& context, std::chrono::nanoseconds deadline);
  template <typename Response>
  grpc::Status Finish(grpc::ClientContext& context,
                      grpc::ClientAsyncResponseReader<Response>& reader, Response* response);
  grpc::Status KeepAliveOnce(grpc::ClientContext& context, int64_t lease, int64_t* seconds_left);
  absl::Status FromGrpc(const grpc::Status& status) const;

  const ClientOptions options_;
  const std::stop_token stop_;
  size_t at_ = 0;  // of options_.endpoints
  std::string token_;
  bool asked_for_token_ = false;  // and it was given, or etcd has no users
  std::shared_ptr<grpc::Channel> channel_;
  grpc::CompletionQueue queue_;
};

}  // namespace engram::etcd
