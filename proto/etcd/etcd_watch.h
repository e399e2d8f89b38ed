// A watch of etcd's: the events of a range of keys, in order, from a revision on.
//
// The thread's of its client, which outlives it. A stream that is silent for kSilence is asked for
// a sign of life, and given up where none comes in the same time: the machine may be gone.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "proto/etcd/etcd_client.h"
#include "proto/etcd/rpc.grpc.pb.h"

namespace engram::etcd {

inline constexpr std::chrono::seconds kSilence{10};

class WatchStream {
 public:
  // `from`: the first revision whose events are wanted.
  WatchStream(Client& client, const std::string& key, const std::string& range_end, int64_t from);
  // Ends it.
  ~WatchStream();
  WatchStream(const WatchStream&) = delete;
  WatchStream& operator=(const WatchStream&) = delete;

  // The next response: that it was created, events, a sign of life without any, or its end
  // (canceled). Client has the errors; after one it is over.
  absl::StatusOr<etcdserverpb::WatchResponse> Next();

 private:
  absl::Status Start();
  // After an operation that failed, or one that did not come `in_time`: why.
  absl::Status End(bool in_time);
  bool Write(const etcdserverpb::WatchRequest& request);

  Client& client_;
  etcdserverpb::WatchRequest create_;
  std::unique_ptr<etcdserverpb::Watch::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<
      grpc::ClientAsyncReaderWriter<etcdserverpb::WatchRequest, etcdserverpb::WatchResponse>>
      stream_;  // null before the first Next
  etcdserverpb::WatchResponse response_;
  Operation operation_;  // any but a read
  Operation read_;
  bool created_ = false;
  bool ended_ = false;
};

}  // namespace engram::etcd
