#include <unordered_map>

#include "tests/bench/overload/load_client.h"

namespace engram::overload {
namespace {

using RawCall = grpc::ClientAsyncResponseReader<grpc::ByteBuffer>;

constexpr char kMethod[] = "/engram.v1.Lookup/Lookup";

class UnaryClient final : public LoadClient {
 public:
  UnaryClient(const std::string& address, const Bodies* bodies, grpc::CompletionQueue* queue)
      : LoadClient(bodies), channel_(OwnChannel(address)), stub_(channel_), queue_(queue) {
    channel_->GetState(/*try_to_connect=*/true);
  }

  bool ready() const override { return channel_->GetState(true) == GRPC_CHANNEL_READY; }
  bool over() const override { return false; }
  size_t under_way() const override { return calls_.size(); }
  void End() override {
    for (const auto& [id, call] : calls_) call->context.TryCancel();
  }

 private:
  struct Call final : Event {
    void Happened(bool) override { client->Take(id); }
    UnaryClient* client = nullptr;
    uint64_t id = 0;
    Times times;
    grpc::ClientContext context;
    grpc::ByteBuffer message;
    grpc::Status status;
    std::unique_ptr<RawCall> call;
  };

  void Write() override {
    Times times;
    while (TakeDue(times)) {
      const uint64_t id = next_id_++;
      std::unique_ptr<Call>& call = calls_[id] = std::make_unique<Call>();
      call->client = this;
      call->id = id;
      call->times = times;
      call->context.set_deadline(std::chrono::system_clock::now() +
                                 (times.deadline - Clock::now()));
      call->call = stub_.PrepareUnaryCall(&call->context, kMethod, Request(id, times), queue_);
      call->call->StartCall();
      ++events_;
      call->call->Finish(&call->message, &call->status, call.get());
    }
  }

  void Take(uint64_t id) {
    --events_;
    const auto at = calls_.find(id);
    const std::unique_ptr<Call> call = std::move(at->second);
    calls_.erase(at);
    if (!call->status.ok()) {
      // When to ask again is in the details.
      return Refused(call->times, call->status.error_code(), !call->status.error_details().empty(),
                     call->status.error_message());
    }
    const wire::LookupResponse* const reply = Parse(call->message);
    if (reply == nullptr) return;
    uint64_t row_bytes = 0;
    for (const auto& layer : reply->layers) row_bytes += layer.rows.size;
    Answered(call->times, row_bytes);
  }

  const std::shared_ptr<grpc::Channel> channel_;
  RawStub stub_;
  grpc::CompletionQueue* const queue_;
  uint64_t next_id_ = 1;
  std::unordered_map<uint64_t, std::unique_ptr<Call>> calls_;
};

}  // namespace

std::unique_ptr<LoadClient> MakeUnaryClient(const std::string& address, const Bodies* bodies,
                                            grpc::CompletionQueue* queue) {
  return std::make_unique<UnaryClient>(address, bodies, queue);
}

}  // namespace engram::overload
