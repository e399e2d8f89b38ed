#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/os/malloc_tuning.h"
#include "server/base/limits.h"
#include "tests/bench/compare/grpc_echo.h"

namespace engram::bench {
namespace {

struct Event {
  std::function<void(bool)> done;
};

// One call, stream or unary, on its loop's thread: one read and one write under way at most, as
// engramd's.
class EchoCall {
 public:
  EchoCall(grpc::AsyncGenericService* service, grpc::ServerCompletionQueue* queue)
      : service_(service), queue_(queue), stream_(&context_) {
    accepted_.done = [this](bool ok) { OnAccepted(ok); };
    read_.done = [this](bool ok) { OnRead(ok); };
    written_.done = [this](bool ok) { OnWritten(ok); };
    finished_.done = [this](bool) { delete this; };
    service_->RequestCall(&context_, &stream_, queue_, queue_, &accepted_);
  }

 private:
  static const std::vector<char>& Bytes() {
    static const std::vector<char>& bytes = *new std::vector<char>(kEchoUnaryBytes, 'e');
    return bytes;
  }
  static grpc::ByteBuffer Reply(uint64_t bytes) {
    const grpc::Slice slice(Bytes().data(), bytes, grpc::Slice::STATIC_SLICE);
    return grpc::ByteBuffer(&slice, 1);
  }

  void OnAccepted(bool ok) {
    if (!ok) {
      delete this;
      return;
    }
    new EchoCall(service_, queue_);
    unary_ = context_.method() == kEchoUnary;
    stream_.Read(&message_, &read_);
  }
  void OnRead(bool ok) {
    reading_ = false;
    uint64_t wanted = 0;
    if (ok) ok = Wanted(&wanted);
    message_.Clear();
    if (!ok) {
      over_ = true;
      if (!writing_) Finish();
      return;
    }
    if (unary_) {
      over_ = true;
      stream_.WriteAndFinish(Reply(std::min(wanted, kEchoUnaryBytes)), {}, grpc::Status::OK,
                             &finished_);
      return;
    }
    owed_.push_back(wanted);
    Advance();
  }
  bool Wanted(uint64_t* wanted) {
    slices_.clear();
    if (!message_.Dump(&slices_).ok()) return false;
    auto* to = reinterpret_cast<char*>(wanted);
    size_t missing = sizeof(*wanted);  // a message comes in pieces, wherever reads ended
    for (const grpc::Slice& slice : slices_) {
      const size_t some = std::min(missing, slice.size());
      std::memcpy(to, slice.begin(), some);
      to += some;
      missing -= some;
    }
    if (missing > 0) return false;
    return *wanted > 0;
  }
  void OnWritten(bool ok) {
    writing_ = false;
    if (!ok) owed_.clear();
    if (over_ && owed_.empty()) {
      Finish();
      return;
    }
    Advance();
  }
  void Advance() {
    if (!writing_ && !owed_.empty()) {
      const uint64_t bytes = std::min(owed_.front(), kEchoMessageBytes);
      owed_.front() -= bytes;
      if (owed_.front() == 0) owed_.pop_front();
      writing_ = true;
      stream_.Write(Reply(bytes), &written_);
    }
    if (!over_ && !reading_ && owed_.size() < kMaxBatchesPerStream) {
      reading_ = true;
      stream_.Read(&message_, &read_);
    }
  }
  void Finish() { stream_.Finish(grpc::Status::OK, &finished_); }

  grpc::AsyncGenericService* const service_;
  grpc::ServerCompletionQueue* const queue_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_;
  Event accepted_, read_, written_, finished_;
  grpc::ByteBuffer message_;
  std::vector<grpc::Slice> slices_;
  std::deque<uint64_t> owed_;
  bool unary_ = false;
  bool reading_ = true;
  bool writing_ = false;
  bool over_ = false;
};

}  // namespace

absl::Status ServeGrpcEcho(const std::vector<std::string>& addresses) {
  KeepFreedMemory();
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxRequestBytes));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, std::numeric_limits<int>::max());
  for (const std::string& address : addresses) {
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  }
  grpc::AsyncGenericService service;
  builder.RegisterAsyncGenericService(&service);
  // As many loops as engramd has.
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues(
      std::clamp(std::thread::hardware_concurrency() / 2, 1u, 8u));
  for (auto& queue : queues) queue = builder.AddCompletionQueue();
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", absl::StrJoin(addresses, " ")));
  }
  std::vector<std::thread> threads;
  for (auto& queue : queues) {
    threads.emplace_back([&service, queue = queue.get()] {
      new EchoCall(&service, queue);
      void* tag = nullptr;
      bool ok = false;
      while (queue->Next(&tag, &ok)) static_cast<Event*>(tag)->done(ok);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return absl::OkStatus();
}

}  // namespace engram::bench
