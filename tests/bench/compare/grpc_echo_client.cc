#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>

#include "absl/strings/str_cat.h"
#include "tests/bench/compare/grpc_echo.h"

namespace engram::bench {
namespace {

using Stub = grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer>;

// An id on the wire, and what else a lookup's request holds: set id, batch id, layers.
constexpr uint64_t kIdBytes = 4;
constexpr uint64_t kRequestHeadBytes = 96;

// As client/transport/grpc/grpc_transport.cc opens its own.
std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, std::numeric_limits<int>::max());
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 4 << 20);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 1 << 20);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

grpc::ByteBuffer Request(uint64_t rows, uint64_t wanted) {
  const grpc::Slice slice(kRequestHeadBytes + rows * kIdBytes);
  auto* const bytes = const_cast<uint8_t*>(slice.begin());
  std::memset(bytes, 0, slice.size());
  std::memcpy(bytes, &wanted, sizeof(wanted));
  return grpc::ByteBuffer(&slice, 1);
}

absl::Status Broken() { return absl::UnavailableError("the gRPC echo's connection broke"); }

// Batches on one stream, answered in order.
class StreamLane final : public Lane {
 public:
  explicit StreamLane(const std::string& address) : stub_(OpenChannel(address)) {
    stream_ = stub_.PrepareCall(&context_, kEchoStream, &queue_);
    stream_->StartCall(Tag(kStarted));
  }
  ~StreamLane() override {
    context_.TryCancel();
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  absl::Status Begin(size_t, const Batch& batch) override {
    while (!started_) {
      if (!TakeOne()) return Broken();
    }
    const uint64_t bytes = batch.tokens * kTokenBytes;
    owed_.push_back(bytes);
    to_send_.push_back(Request(batch.tokens * kTokenRows, bytes));
    WriteNext();
    ++begun_;
    return absl::OkStatus();
  }
  absl::Status End(size_t, const Batch&) override {
    ++ended_;
    while (begun_ - owed_.size() < ended_) {
      if (!TakeOne()) return Broken();
    }
    return absl::OkStatus();
  }

 private:
  enum What : intptr_t { kStarted = 1, kRead, kWritten };
  static void* Tag(What what) { return reinterpret_cast<void*>(what); }

  void WriteNext() {
    if (writing_ || to_send_.empty()) return;
    writing_ = true;
    stream_->Write(to_send_.front(), Tag(kWritten));
    to_send_.pop_front();
  }
  bool TakeOne() {
    void* tag = nullptr;
    bool ok = false;
    if (!queue_.Next(&tag, &ok) || !ok) return false;
    switch (static_cast<What>(reinterpret_cast<intptr_t>(tag))) {
      case kStarted:
        started_ = true;
        stream_->Read(&message_, Tag(kRead));
        break;
      case kWritten:
        writing_ = false;
        WriteNext();
        break;
      case kRead:
        if (owed_.empty() || message_.Length() > owed_.front()) return false;
        owed_.front() -= message_.Length();
        if (owed_.front() == 0) owed_.pop_front();
        message_.Clear();
        stream_->Read(&message_, Tag(kRead));
        break;
    }
    return true;
  }

  Stub stub_;
  grpc::CompletionQueue queue_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
  grpc::ByteBuffer message_;
  std::deque<grpc::ByteBuffer> to_send_;
  std::deque<uint64_t> owed_;  // bytes of each batch that is not answered whole
  bool started_ = false;
  bool writing_ = false;
  uint64_t begun_ = 0;
  uint64_t ended_ = 0;
};

// A batch is as many calls as its replies need, all at once.
class UnaryLane final : public Lane {
 public:
  explicit UnaryLane(const std::string& address) : stub_(OpenChannel(address)) {}
  ~UnaryLane() override { queue_.Shutdown(); }

  absl::Status Begin(size_t slot, const Batch& batch) override {
    const uint64_t rows = batch.tokens * kTokenRows;
    const uint64_t most = kEchoUnaryBytes / kRowBytes;
    for (uint64_t first = 0; first < rows; first += most) {
      const uint64_t count = std::min(most, rows - first);
      auto* const call = new Call{.slot = slot};
      call->reader = stub_.PrepareUnaryCall(&call->context, kEchoUnary,
                                            Request(count, count * kRowBytes), &queue_);
      call->reader->StartCall();
      call->reader->Finish(&call->reply, &call->status, call);
      ++under_way_[slot];
    }
    return absl::OkStatus();
  }
  absl::Status End(size_t slot, const Batch&) override {
    while (under_way_[slot] > 0) {
      void* tag = nullptr;
      bool ok = false;
      if (!queue_.Next(&tag, &ok)) return Broken();
      const std::unique_ptr<Call> call(static_cast<Call*>(tag));
      if (!call->status.ok()) return absl::UnavailableError(call->status.error_message());
      --under_way_[call->slot];
    }
    return absl::OkStatus();
  }

 private:
  struct Call {
    size_t slot;
    grpc::ClientContext context = {};
    grpc::ByteBuffer reply = {};
    grpc::Status status = {};
    std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> reader = {};
  };
  Stub stub_;
  grpc::CompletionQueue queue_;
  std::array<int, kMaxInFlight> under_way_ = {};
};

class EchoContender final : public Contender {
 public:
  EchoContender(std::string address, bool unary) : address_(std::move(address)), unary_(unary) {}
  absl::StatusOr<std::unique_ptr<Lane>> NewLane() override {
    if (unary_) return std::make_unique<UnaryLane>(address_);
    return std::make_unique<StreamLane>(address_);
  }
  bool lands_rows() const override { return false; }

 private:
  const std::string address_;
  const bool unary_;
};

}  // namespace

std::unique_ptr<Contender> GrpcEcho(const std::string& address, bool unary) {
  return std::make_unique<EchoContender>(address, unary);
}

}  // namespace engram::bench
