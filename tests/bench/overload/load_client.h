// One client of the generator: a connection of its own, the batches that are due and those that it
// waits for. Driven by one thread, by the events of the generator's queue.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "proto/wire/lookup_messages.h"
#include "tests/bench/overload/overload.h"

namespace engram::overload {

using Clock = std::chrono::steady_clock;
using RawStub = grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer>;

struct Bodies {
  std::string table_set_id;
  std::vector<grpc::Slice> layers;  // what follows a request's head; different ones, used in turn
  uint64_t row_bytes = 0;           // of a batch's answer
};

class LoadClient {
 public:
  // What a queue's tag points to.
  struct Event {
    virtual ~Event() = default;
    virtual void Happened(bool ok) = 0;
  };

  explicit LoadClient(const Bodies* bodies) : bodies_(bodies) {}
  virtual ~LoadClient() = default;

  virtual bool ready() const = 0;
  virtual bool over() const = 0;  // answers nothing any more
  virtual size_t under_way() const = 0;
  virtual void End() = 0;  // its events come soon

  int events() const { return events_; }  // that are still to come
  size_t waiting() const { return due_.size() + under_way(); }
  uint64_t answered() const { return answered_; }
  Tally TakeTally() { return std::exchange(tally_, {}); }

  void Add(Clock::time_point due, Clock::duration deadline) {
    ++tally_.sent;
    due_.push_back({due, due + deadline});
    Write();
  }

 protected:
  struct Times {
    Clock::time_point due, deadline;
  };

  // Sends what is due and can be sent now.
  virtual void Write() = 0;

  // The next batch to be sent; false when none is due. What is too late to be sent has expired.
  bool TakeDue(Times& times);
  // The request with this number, to be answered in time.
  grpc::ByteBuffer Request(uint64_t id, const Times& times) const;
  // What came of a batch: an answer with all its rows, or with `row_bytes` of them; or a code.
  void Answered(const Times& times, uint64_t row_bytes);
  void Refused(const Times& times, uint32_t code, bool says_when, const std::string& message);
  void Fail(const std::string& why);
  // The answer in a message, until the next one is read; null, and it failed, where it is none.
  const wire::LookupResponse* Parse(const grpc::ByteBuffer& message);

  const Bodies& bodies() const { return *bodies_; }
  int events_ = 0;

 private:
  const Bodies* const bodies_;
  std::deque<Times> due_;  // not sent yet
  uint64_t answered_ = 0;
  Tally tally_;
  std::vector<grpc::Slice> slices_;
  std::vector<wire::Bytes> chain_;
  wire::LookupResponse reply_;
};

// Batches on a stream, or each a call of its own.
std::unique_ptr<LoadClient> MakeStreamClient(const std::string& address, const Bodies* bodies,
                                             grpc::CompletionQueue* queue);
std::unique_ptr<LoadClient> MakeUnaryClient(const std::string& address, const Bodies* bodies,
                                            grpc::CompletionQueue* queue);

// gRPC shares connections between channels that are alike; these are not.
std::shared_ptr<grpc::Channel> OwnChannel(const std::string& address);

}  // namespace engram::overload
