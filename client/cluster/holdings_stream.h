// One Holdings stream to one store, for as long as this lives: hears what the store holds, and is
// this client's lease there of the sets that it says it uses.
//
// What ends the stream - the store goes, falls silent, or says what cannot be true - is told, and
// another one is opened after a delay that grows. It has no thread: its events come out of the
// queue of its driver, which many streams share. That driver is none of lookups: it has work for as
// long as a stream lives, and lookups look for events before they sleep only where theirs is alone.
// All that waits goes by the Clock. Use is thread-safe.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/grpc/grpc_channel.h"
#include "client/transport/grpc/grpc_credentials.h"
#include "client/transport/grpc/queue_driver.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/cluster/store_state.h"
#include "proto/rpc/queue_event.h"

namespace engram {

// Told by whoever drives, one thing after the other; waits for nothing, and destroys no stream.
class HoldingsListener {
 public:
  // All that the store at `state.address` says of itself; replaces what it said before.
  virtual void Heard(StoreState state) = 0;
  // Nothing is heard of it until it is again; each time that a stream ended, or was not had.
  // INVALID_ARGUMENT: what it said is left out. The message names the store.
  virtual void Lost(const std::string& address, absl::Status why) = 0;

 protected:
  ~HoldingsListener() = default;
};

class HoldingsStream {
 public:
  // A store says something every second.
  static constexpr absl::Duration kSilence = absl::Seconds(5);
  // Between two streams: the first, twice as long each time that nothing was heard, at most.
  static constexpr absl::Duration kFirstDelay = absl::Milliseconds(100);
  static constexpr absl::Duration kMaxDelay = absl::Seconds(5);

  // What it is pointed to outlives it.
  struct Options {
    std::string address;  // HOST:PORT or unix:PATH
    std::shared_ptr<const GrpcCredentials> credentials;
    std::shared_ptr<grpc::Channel> channel;  // OpenChannel's, to that address
    std::shared_ptr<QueueDriver> driver;
    HoldingsListener* listener = nullptr;
    Clock* clock = &RealClock();  // the driver's
  };

  // Begins at once.
  explicit HoldingsStream(Options options);
  // Ends the stream, and with it the lease. When it returns the listener is not called any more;
  // not to be called by it.
  ~HoldingsStream();
  HoldingsStream(const HoldingsStream&) = delete;
  HoldingsStream& operator=(const HoldingsStream&) = delete;

  // The whole ids of the sets that this client uses from now on, 128 at most, on this stream and on
  // those after it.
  void Use(std::vector<std::string> set_ids) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // From its start until its last event was taken.
  struct Call {
    grpc::ClientContext context;
    std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream;
    grpc::ByteBuffer message;  // being read
    grpc::Status status;
    absl::Status why;  // where it was we who ended it
    MonotonicTime heard;
    uint64_t said = 0;  // which of Use's it was told
    bool started = false;
    bool writing = false;
    bool breaking = false;  // nothing more is begun
    bool finished = false;
  };

  void Open() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SayUsed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Break() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Refuse(absl::Status why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WatchSilence() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellIfOver() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status WhyOver(const Call& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<StoreState> Parse(grpc::ByteBuffer& message) const;

  void OnStarted(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);
  void OnSilence(bool ok);
  void OnRetry(bool ok);
  // Of an event, from where it is given to gRPC or to the driver until it was told.
  void* Begin(rpc::QueueEvent& event);
  void SetTimer(MonotonicTime at, rpc::QueueEvent& event);

  const Options options_;
  grpc::GenericStub stub_;
  rpc::MethodEvent<HoldingsStream> started_, read_, written_, finished_, silence_, retry_;
  std::atomic<int> events_{0};                          // that have not been told
  Mutex mutex_;                                         // before the driver's
  std::unique_ptr<Call> call_ ABSL_GUARDED_BY(mutex_);  // null between two
  HandshakeWatch handshake_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> used_ ABSL_GUARDED_BY(mutex_);
  uint64_t used_version_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::Duration delay_ ABSL_GUARDED_BY(mutex_) = kFirstDelay;
  bool watching_silence_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace engram
